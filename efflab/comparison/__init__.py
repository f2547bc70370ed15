"""What the records of a study mean beside each other: rows, shifts, verdicts."""
