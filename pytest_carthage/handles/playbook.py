"""What a playbook did, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["HostResult", "PlaybookResult", "Status", "TaskResult"]

#: *ignored*: it failed, and the play goes on by ``ignore_errors`` or ``ignore_unreachable``
Status = Literal["ok", "changed", "failed", "ignored", "unreachable", "skipped"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
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
