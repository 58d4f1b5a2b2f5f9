"""Promises: what a live thing can do, and the values that it gives."""
