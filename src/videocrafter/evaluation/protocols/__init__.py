"""Protocols: what is measured on which prompts, as data with a hash."""
