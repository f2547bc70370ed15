"""What a stage does: load a baseline, apply a technique, score, time."""
