"""What each kind of model learns from a batch: one file per task."""
