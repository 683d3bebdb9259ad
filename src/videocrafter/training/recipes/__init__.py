"""Recipes: whole runs as Python values, and how to override single settings."""
