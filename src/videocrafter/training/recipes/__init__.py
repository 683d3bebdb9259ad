"""Recipes, which are complete run configurations, and overrides of single settings."""
