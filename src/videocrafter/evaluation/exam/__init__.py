"""The exam of models trained on the sprite world."""
