"""Tars as folders, by descriptors: no name in a tar leads through a link, or out of the folder.

From low to high: a folder and what is in it (``beneath``), one member of a tar (``members``). All
of it is the standard library only: it is loaded in a process of its own.
"""
