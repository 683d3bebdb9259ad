"""Run folders, checkpoints, the training state, and stopping cleanly."""
