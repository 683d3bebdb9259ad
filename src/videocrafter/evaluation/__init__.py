"""Metrics for generated videos, and the protocols that fix how they are measured."""
