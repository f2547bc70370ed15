"""The law error ~ compute of a family, and how far a variant lies from it."""
