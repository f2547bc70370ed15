"""A user's own model on a backend, with inputs like its real ones."""
