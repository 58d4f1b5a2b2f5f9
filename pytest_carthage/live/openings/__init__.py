"""Declared ways in and out: gates, stations, spans."""
