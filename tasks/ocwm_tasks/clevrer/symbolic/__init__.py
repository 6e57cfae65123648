"""Latents -> object states -> events -> program: a reasoner that has nothing to train but a probe and thresholds."""
