"""Validates a backend (is it right, where is it wrong, what does it fall back to, how fast is it, what got worse) or a technique."""
