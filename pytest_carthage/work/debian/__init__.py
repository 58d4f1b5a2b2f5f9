"""Debian packages from outside."""
