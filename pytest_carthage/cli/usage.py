"""A mistake in how a command was called."""

from __future__ import annotations

__all__ = ["Usage"]


class Usage(Exception):
    """What was asked for makes no sense, or does not exist; the message says what would."""
