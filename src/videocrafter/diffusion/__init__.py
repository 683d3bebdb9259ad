"""Noise schedules, objectives, guidance and samplers."""
