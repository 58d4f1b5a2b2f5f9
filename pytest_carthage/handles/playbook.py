"""What a playbook did, as values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_carthage.handles.excerpts import ending, listed

__all__ = ["HostResult", "PlaybookResult", "Status", "TaskResult"]

#: *ignored*: it failed, and the play goes on by ``ignore_errors`` or ``ignore_unreachable``
Status = Literal["ok", "changed", "failed", "ignored", "unreachable", "skipped"]

#: of the tasks that failed, or else changed something, how many a representation names
_MOST_NAMED = 5
#: characters of what a module said in a representation
_MESSAGE = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResult:
    """What a playbook did on one machine: numbers of tasks, as in Ansible's recap."""

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0
    skipped: int = 0
    #: failures that a ``rescue`` caught
    rescued: int = 0
    #: failures that ``ignore_errors`` let pass
    ignored: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TaskResult:
    """What one task did on one machine."""

    play: str
    name: str
    host: str
    status: Status
    #: what the module said; for a failure its message and last lines
    message: str
    duration_s: float
    #: where the task is written, as in ``roles/web/tasks/main.yml:7``
    path: str = ""
    #: what changed, or would change, as ``ansible-playbook --diff`` shows it; empty: nothing did,
    #: or no diff was asked for (``diff=True``, or ``always`` in the configuration)
    diff: str = ""
    #: False: in check mode the module could not tell what it would do
    checked: bool = True

    def __str__(self) -> str:
        return f"{self.name} ({self.host})"

    def __repr__(self) -> str:
        """As in ``<web : site is configured (web1): failed, 'no such file', site.yml:7>``."""
        said = f", {ending(self.message, _MESSAGE)}" if self.message else ""
        where = f", {self.path}" if self.path else ""
        return f"<{self}: {self.status}{said}{where}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PlaybookResult:
    """What a playbook did."""

    playbook: Path
    #: machine name to its sums
    hosts: Mapping[str, HostResult]
    #: in the order in which they ended
    tasks: tuple[TaskResult, ...]
    #: plays whose ``hosts:`` mean no machine of the layout
    unmatched: tuple[str, ...]
    #: everything that Ansible printed
    log: Path
    duration_s: float
    #: files that were read while plays ran, in no order; those of Ansible itself, too
    reads: frozenset[Path] = frozenset()
    #: hosts of the tree's inventory that the layout does not have, and that were left out
    absent: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether any task changed anything; False in the second run of an idempotent tree."""
        return any(host.changed for host in self.hosts.values())

    @property
    def ok(self) -> bool:
        """Whether no machine failed or was unreachable."""
        return not any(host.failed or host.unreachable for host in self.hosts.values())

    def of_status(self, *statuses: Status) -> tuple[TaskResult, ...]:
        """Each task on each machine that ended so, in the order in which they ended."""
        return tuple(task for task in self.tasks if task.status in statuses)

    def __repr__(self) -> str:
        """As in ``site.yml: 20 ok, 1 changed: web : site is configured (web1)``."""
        numbers = Counter(task.status for task in self.tasks)
        order: tuple[Status, ...] = (
            "ok", "skipped", "ignored", "unreachable", "failed", "changed"
        )  # fmt: skip
        words = [f"{numbers[status]} {status}" for status in order if numbers[status]]
        text = f"{self.playbook.name}: {', '.join(words) or 'no task'}"
        named = [
            f"{task} {task.status}" for task in self.of_status("failed", "unreachable")
        ] or list(map(str, self.of_status("changed")))
        return f"{text}: {listed(named, most=_MOST_NAMED)}" if named else text
