"""What went wrong in a playbook: messages for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.work.ansible.station import way_out
from pytest_carthage.work.left_out import advice

if TYPE_CHECKING:
    from pytest_carthage.handles.playbook import PlaybookResult, TaskResult
    from pytest_carthage.work.ansible.environment import Environment

__all__ = ["cause", "complaint", "failure", "indented", "last_lines"]


def cause(result: PlaybookResult) -> str:
    """The first cause in a few words; empty when no task is to blame."""
    causes = _causes(result)
    return f"task {causes[0].name!r} {_verb(causes[0])} on {causes[0].host!r}" if causes else ""


def failure(environment: Environment, result: PlaybookResult, status: int) -> str:
    """The message about a failure: the first cause, then the others in one line each."""
    subject = (
        f"playbook {str(result.playbook)!r} on layout {environment.plan.layout!r} "
        f"({environment.name})"
    )
    causes = _causes(result)
    if causes:
        first, *others = causes
        text = (
            f"{subject}: play {first.play!r}, task {first.name!r} {_verb(first)} on {first.host!r}"
        )
        if first.path:
            text += f" ({first.path})"
        text += f":\n{indented(first.message)}"
        planned = environment.plan.machines.get(first.host)
        if planned is not None and planned.image is not None:
            why = advice(first.message, planned.image.left_out)
            text += f"\n{why}" if why else ""
        if why := way_out(first.message):
            text += f"\n{why}"
        if others:
            text += "\nit went wrong too on: " + ", ".join(
                f"{one.host!r} (task {one.name!r} {_verb(one)})" for one in others
            )
        return f"{text}\nlog: {result.log}"
    if status == 0 and (result.unmatched or result.hosts):
        plan = environment.plan
        groups = sorted({group for one in plan.machines.values() for group in one.groups})
        return (
            f"{subject}: no play matches a machine; plays: "
            f"{', '.join(map(repr, result.unmatched)) or 'none'}; machines: "
            f"{', '.join(plan.machines) or 'none'}; groups: {', '.join(groups) or 'none'}; "
            f"try: Machine(..., groups=[...]) with the group of the play{_absent(result)}; "
            f"log: {result.log}"
        )
    gave_up = f"gave up with exit status {status}" if status else "ran no play"
    return f"{subject}: Ansible {gave_up}:\n{indented(complaint(result.log))}\nlog: {result.log}"


def _absent(result: PlaybookResult) -> str:
    if not result.absent:
        return ""
    return (
        f", or Machine(..., inventory_hostname={result.absent[0]!r}): the tree's inventory has "
        f"{', '.join(result.absent)}, which are no machines of the layout"
    )


def _causes(result: PlaybookResult) -> list[TaskResult]:
    """For each machine that failed in the end, its last failing task."""
    last: dict[str, TaskResult] = {}
    for task in result.tasks:
        if task.status in ("failed", "unreachable"):
            last.pop(task.host, None)
            last[task.host] = task
    if not result.hosts:
        return list(last.values())
    return [
        task
        for host, task in last.items()
        if (sums := result.hosts.get(host)) is None or sums.failed or sums.unreachable
    ]


def _verb(task: TaskResult) -> str:
    return "failed" if task.status == "failed" else "found no connection"


def last_lines(log: Path, lines: int = 10) -> str:
    """The last lines of a log, indented."""
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    return indented("\n".join(text.splitlines()[-lines:]))


def complaint(log: Path) -> str:
    """What Ansible printed from its first error on; its last lines when there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    # older versions tell the usage of a program first, which is long
    for beginning in (("[ERROR]", "ERROR!", "ERROR:"), ("usage:",)):
        for number, line in enumerate(lines):
            if line.startswith(beginning):
                return "\n".join(lines[number : number + 30])
    return "\n".join(lines[-15:]) or "it printed nothing"


def indented(text: str) -> str:
    """Text as a part of a message."""
    return "\n".join(f"  {line}" for line in text.splitlines())
