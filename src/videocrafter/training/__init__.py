"""Training in stages: configurations, recipes, state and the loop."""
