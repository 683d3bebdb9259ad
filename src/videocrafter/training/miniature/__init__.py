"""Tasks that train the miniature's networks on the sprite world."""
