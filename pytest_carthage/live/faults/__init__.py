"""Faults on machines and networks, single or as storms."""
