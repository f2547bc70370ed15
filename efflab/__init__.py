"""efflab: which compression or acceleration technique is worth it, and the proof."""
