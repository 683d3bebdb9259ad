"""Run units in supervised processes, on this machine or on a Ray cluster."""
