"""What a variant is on disk and in memory, and what it takes and gives."""
