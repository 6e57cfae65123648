"""Push-T: an agent pushes a T-shaped block to a goal pose; environment, data, readers and start/goal pairs."""
