"""`videocrafter generate`."""
