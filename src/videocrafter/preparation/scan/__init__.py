"""Everything that is measured in one decoding pass over a video."""
