"""Find a model by name: download it, convert it once, keep the result."""
