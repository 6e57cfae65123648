"""Play data: an agent that pushes the block about, partly towards a goal pose."""
