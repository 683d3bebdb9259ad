"""Checkpoints: known formats, conversion, download, LoRA files and publishing."""
