"""What systemd says of a unit, and what that means for who waits for it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Self

__all__ = ["LISTS", "NOT_BOOTED", "SHOW", "STARTED", "STATE", "State", "missing"]

_PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result", "Job")
SHOW = ("systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--")
#: says how far systemd is itself, and what it says when it has started all that it should
STATE = ("systemctl", "is-system-running")
STARTED = ("running", "degraded")
#: list the units that there are, on disk and in memory
LISTS = (
    ("systemctl", "list-unit-files", "--no-legend", "--no-pager", "--plain"),
    ("systemctl", "list-units", "--all", "--no-legend", "--no-pager", "--plain"),
)
NOT_BOOTED = "has not been booted with systemd"
_MOST_SIMILAR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of a unit, see systemctl(1)."""

    load: str
    active: str
    sub: str
    result: str
    #: whether something is about to be done to it
    has_job: bool

    @classmethod
    def of(cls, text: str) -> Self | None:
        """What ``systemctl show`` printed; None: that is none."""
        values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        if not {"LoadState", "ActiveState"} <= set(values):
            return None
        return cls(
            load=values["LoadState"],
            active=values["ActiveState"],
            sub=values.get("SubState", ""),
            result=values.get("Result", ""),
            has_job=bool(values.get("Job", "").strip("0")),
        )

    @property
    def is_active(self) -> bool:
        """Whether ``systemctl is-active`` would say so."""
        return self.active in ("active", "reloading", "refreshing")

    @property
    def may_be_over(self) -> bool:
        """Whether it is another thing while systemd starts, when units may come and be retried."""
        return self.load == "not-found" or self.active == "failed"

    def hopeless(self, name: str, machine: str) -> str:
        """Why the unit of this name will not become active by itself; empty: it may."""
        into = f"pytest-carthage exec {machine} --"
        if self.load == "masked":
            return f"unit {name} is masked; try: systemctl unmask {name}"
        if self.load in ("bad-setting", "error"):
            return (
                f"unit {name} cannot be loaded ({self.load}); "
                f"try: {into} systemd-analyze verify {name}"
            )
        if self.active == "failed" and not self.has_job:
            return f"unit {name} has failed ({self.result}); try: {into} journalctl -u {name}"
        return ""

    def __str__(self) -> str:
        if self.load == "not-found":
            return "there is no such unit"
        return f"{self.active} ({self.sub})" if self.sub else self.active


def missing(name: str, listed: str) -> str:
    """That there is no such unit, with those that are similar.

    :param listed: what ``systemctl`` has listed, see :data:`LISTS`.
    """
    units = {words[0]: None for line in listed.splitlines() if (words := line.split())}
    short = {unit.removesuffix(".service"): None for unit in units}
    similar = difflib.get_close_matches(name.removesuffix(".service"), short, _MOST_SIMILAR)
    return f"no unit {name}; similar: {', '.join(similar)}" if similar else f"no unit {name}"
