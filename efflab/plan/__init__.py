"""Which stages a recipe needs, known before any work."""

from efflab.foundation.old_names import forward

MOVED = ["Plan", "Row", "make_plan"]
__getattr__ = forward("efflab.plan", ["efflab.plan.plan"], MOVED)
