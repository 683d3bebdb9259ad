"""One video on several devices."""
