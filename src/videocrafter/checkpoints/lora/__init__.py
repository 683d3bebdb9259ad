"""LoRA files: read every common format and find the layers that each entry changes."""
