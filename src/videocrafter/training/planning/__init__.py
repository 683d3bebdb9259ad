"""What a run needs before it begins: memory, operations, and settings that would make it fit."""
