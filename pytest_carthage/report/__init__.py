"""Telling people: events, progress, drawings of a layout, bundles of what failed."""
