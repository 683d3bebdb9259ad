"""Where clips come from: one file per format."""
