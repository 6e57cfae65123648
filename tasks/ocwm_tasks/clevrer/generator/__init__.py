"""The embedded data: a small world like CLEVRER's, simulated, rendered and asked about, made from a seed."""
