"""The pytest plugin: what its entry point loads, and no more.

pytest rewrites the assertions of each module of a distribution that has a plugin. Where it cannot
keep what it wrote (``PYTHONDONTWRITEBYTECODE``, a folder that somebody else installed), it parses
and compiles them all again in every session. Ours have no assertion that a person reads, so all
but this one are loaded as they were installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _AsInstalled:
    """Finds modules of this package before pytest's own finder is asked."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.startswith("pytest_carthage."):
            return PathFinder.find_spec(name, path, target)
        return None


sys.meta_path.insert(0, _AsInstalled)

from pytest_carthage.plugin.hooks import *  # noqa: E402, F403 - what pytest registers
