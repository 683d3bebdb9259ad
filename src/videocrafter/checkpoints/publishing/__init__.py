"""Publish a model: model card, licence, training record, upload."""
