"""Which channels and weights go, and how layers lose them."""
