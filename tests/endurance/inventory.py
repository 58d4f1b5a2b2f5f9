"""What a session has left on this host: of its own alone, whatever others do meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.endurance.processes import Family

__all__ = ["Inventory"]

_CGROUPS = Path("/sys/fs/cgroup")
_POLL_S = 0.05


class Inventory:
    """What there may be of a session.

    :param family: its processes.
    :param folder: of all its files; its state folder is ``state`` in there.
    :param name: of its run, which no other run on this host has.
    """

    def __init__(self, family: Family, folder: Path, name: str) -> None:
        self._family = family
        self._folder = folder
        self._name = name

    def look(self) -> Mapping[str, list[str]]:
        """Kind to what there is of it; kinds of which there is nothing are left out."""
        left = {
            "processes": [
                f"{process.name} ({process.pid}): {process.command:.80}"
                for process in self._family.look()
            ],
            "mounts": list(self._mounts()),
            "control groups": [str(path) for path in self._control_groups()],
            "loop devices": list(self._loops()),
            "runs": self._names("state/runs"),
            "temporary files": self._names("tmp"),
        }
        return {kind: names for kind, names in left.items() if names}

    def left_after(self, limit_s: float) -> Mapping[str, list[str]]:
        """What is there all the time until a limit; nothing, as soon as nothing is there."""
        deadline = time.monotonic() + limit_s
        while (left := self.look()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return left

    def _mounts(self) -> Iterator[str]:
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            if str(self._folder) in line:
                yield line

    def _control_groups(self) -> Iterator[Path]:
        for pattern in (f"*{self._name}*", f"*/*{self._name}*"):
            yield from _CGROUPS.glob(pattern)

    def _loops(self) -> Iterator[str]:
        for path in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                file = path.read_text().strip()
            except OSError:
                continue  # it was given back meanwhile
            if str(self._folder) in file:
                yield f"{path.parents[1].name}: {file}"

    def _names(self, folder: str) -> list[str]:
        try:
            names = [path.name for path in (self._folder / folder).iterdir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not name.startswith((".", "pytest-of-")))
