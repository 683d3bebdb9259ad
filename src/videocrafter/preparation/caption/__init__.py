"""Captions: given ones, or those of a model."""
