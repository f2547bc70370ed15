"""Who runs the stages of a plan, and what comes of them."""
