"""Frames between processes, with descriptors."""
