"""Plan a run before it starts: memory, operations, and settings that make it fit."""
