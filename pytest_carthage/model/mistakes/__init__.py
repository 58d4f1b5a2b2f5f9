"""Mistakes in declarations, and their places."""
