"""Validates a backend (is it right, where is it wrong, what does it fall back to, how fast is it) or a technique."""
