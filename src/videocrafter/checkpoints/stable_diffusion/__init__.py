"""Initialise a video model from Stable Diffusion 2.1."""
