"""Changes to models that several techniques share."""
