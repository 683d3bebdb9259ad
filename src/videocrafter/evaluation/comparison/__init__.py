"""Side by side: one page and contact sheets of the same prompts by several models."""
