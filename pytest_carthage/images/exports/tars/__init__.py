"""Folders as a tar: the same files give the same bytes.

From low to high: what bytes go into (``sinks``), how a tar describes a file (``headers``), what is
in merged folders (``tree``), the program that writes one (``program``), and who runs it
(``packing``). All but the last is the standard library only: it is loaded in a process of its own.
"""
