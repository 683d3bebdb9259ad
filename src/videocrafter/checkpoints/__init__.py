"""Checkpoints of other formats: which key is which parameter, and what a config of theirs means here."""
