"""Locks: what a layout was built from, to the version.

From low to high: digests, names of files, and the images that count; the lock, a value that a file
holds (``lock``); making it of what is built, comparing it with what is there, finding it.
"""
