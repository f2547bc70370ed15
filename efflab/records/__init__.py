"""What is kept: studies, records, the store."""
