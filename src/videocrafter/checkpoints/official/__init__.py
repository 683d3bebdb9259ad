"""Checkpoints in the official format: detect the model, map its keys, convert in both directions."""
