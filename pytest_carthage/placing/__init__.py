"""A plan as the fabric takes it."""
