"""What has changed on machines since a playbook ran, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_carthage.handles.excerpts import listed
from pytest_carthage.handles.playbook import PlaybookResult, TaskResult

__all__ = ["Drift"]

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Drift:
    """What playbooks would change if they ran again; true where that is anything.

    ``assert not drift, drift`` shows what, where and how.
    """

    #: of each playbook, what it told in check mode
    runs: tuple[PlaybookResult, ...]

    @property
    def changed(self) -> tuple[TaskResult, ...]:
        """Tasks that would change something, with the diff."""
        return self._of_all("changed")

    @property
    def failed(self) -> tuple[TaskResult, ...]:
        """Tasks that fail in check mode: nothing after them was checked on their machines."""
        return tuple(
            task
            for run in self.runs
            if not run.ok  # or a rescue caught it
            for task in run.of_status("failed", "unreachable")
        )

    @property
    def unchecked(self) -> tuple[TaskResult, ...]:
        """Tasks of which check mode cannot tell what they would do, as commands."""
        return tuple(task for run in self.runs for task in run.tasks if not task.checked)

    def __bool__(self) -> bool:
        return bool(self.changed or self.failed)

    def __repr__(self) -> str:
        total = sum(len(run.tasks) for run in self.runs)
        names = ", ".join(run.playbook.name for run in self.runs)
        text = f"Drift of {names}: {len(self.changed)} of {total} tasks would change"
        text += _named(self.changed)
        if self.failed:
            text += f"; {len(self.failed)} failed in check mode{_named(self.failed)}"
        if self.unchecked:
            text += f"; {len(self.unchecked)} not checked{_named(self.unchecked)}"
        return text

    def __str__(self) -> str:
        lines = [repr(self)]
        for task in (*self.changed, *self.failed):
            lines.append(f"  {task}, {task.path}:")
            more = task.diff or task.message or "it tells no more"
            lines += [f"    {line}".rstrip() for line in more.splitlines()]
        return "\n".join(lines)

    def _of_all(self, status: str) -> tuple[TaskResult, ...]:
        return tuple(task for run in self.runs for task in run.tasks if task.status == status)


def _named(tasks: Sequence[TaskResult]) -> str:
    return f": {listed([str(task) for task in tasks], most=_MOST_NAMED)}" if tasks else ""
