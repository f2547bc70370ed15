"""The contract of techniques, checked."""
