"""Tasks: CLEVRER question answering, Push-T control."""
