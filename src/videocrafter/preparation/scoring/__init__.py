"""Scores that need a network: text area, and networks of the user."""
