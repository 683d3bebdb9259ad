"""Networks only: no file I/O, no device placement."""
