"""What FRR's shell has answered to several commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_carthage.errors import TaskError

__all__ = ["Answers"]


@dataclass(frozen=True, slots=True)
class Answers:
    """Command to what was answered."""

    texts: Mapping[str, str]
    #: interface to whether the kernel has a carrier
    carriers: Mapping[str, bool]
    machine: str = field(repr=False)

    def has(self, command: str) -> bool:
        """Whether this was asked: only of daemons that run."""
        return command in self.texts

    def values(self, command: str) -> Any:
        """What was answered in JSON.

        :raises TaskError: it is none.
        """
        text = self.texts[command].strip()
        try:
            return json.loads(text or "{}")
        except json.JSONDecodeError as error:
            raise TaskError(
                f"machine {self.machine!r}: vtysh {command!r} gives no JSON: {text[:200]!r}; "
                "try: it by hand, in pytest-carthage shell"
            ) from error
