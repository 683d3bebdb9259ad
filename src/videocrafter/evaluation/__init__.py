"""Evaluation of generated videos with fixed protocols."""
