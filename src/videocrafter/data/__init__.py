"""Captioned clips for training and evaluation. This package does not depend on any model."""
