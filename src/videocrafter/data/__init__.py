"""Captioned clips for training and evaluation. This room knows no model."""
