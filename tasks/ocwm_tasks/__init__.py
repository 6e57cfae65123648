"""Tasks: CLEVRER question answering."""
