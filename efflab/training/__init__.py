"""The one trainer, and what a training cost."""

from efflab.foundation.old_names import forward

MOVED = ["fit", "pause_at", "asked_to_pause", "memory_order", "examples_seen"]
__getattr__ = forward("efflab.training", ["efflab.training.trainer"], MOVED)
