"""A file system and the programs in it."""
