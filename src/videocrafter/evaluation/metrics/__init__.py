"""Metrics: numbers from frames, embeddings and features, one idea per file."""
