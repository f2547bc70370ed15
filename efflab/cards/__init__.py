"""Baselines: what a card says, and the model that it names, checked."""
