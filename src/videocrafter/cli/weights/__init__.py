"""Commands that list, convert, initialise and publish models."""
