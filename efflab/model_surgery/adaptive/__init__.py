"""Models whose work depends on the input, and sub-nets."""
