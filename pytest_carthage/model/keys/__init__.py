"""Content keys: values, functions and what they refer to, files that were read."""
