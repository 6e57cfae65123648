"""Baselines: rivals and the references that need no training."""
