"""Techniques: one file each."""
