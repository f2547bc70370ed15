"""Measuring: work, latency, memory, energy, quality, and the statistics of each."""
