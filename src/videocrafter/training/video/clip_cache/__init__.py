"""Cache latents and text embeddings of training clips on disk."""
