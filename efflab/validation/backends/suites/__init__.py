"""The suites: what is tried on a backend."""
