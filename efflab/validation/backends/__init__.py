"""Suites that a backend must pass, and how cases run."""
