"""The sprite world: an endless supply of captioned videos, rendered on demand."""
