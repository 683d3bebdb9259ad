"""LoRA files: read every common layout, and find the layers that each entry changes."""
