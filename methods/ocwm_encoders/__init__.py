"""Encoders: frames or states to latent tokens."""
