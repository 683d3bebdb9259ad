"""Checkpoints in the official format: detect, map keys, convert in both directions."""
