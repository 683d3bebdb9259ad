"""The sprite world: an endless source of captioned videos, rendered on demand."""
