"""Measures of generated videos, and the protocols that pin them down."""
