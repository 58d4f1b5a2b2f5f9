"""A playbook that is run twice changes nothing the second time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_carthage.errors import AnsibleError

if TYPE_CHECKING:
    from pytest_carthage.handles.playbook import PlaybookResult, TaskResult
    from pytest_carthage.work.ansible.environment import Environment

__all__ = ["described", "refuse_changes"]

#: lines of each task's diff in a message
_MOST_LINES = 40


def refuse_changes(environment: Environment, second: PlaybookResult) -> None:
    """Refuse what the second run has changed.

    :raises AnsibleError: it names each task that changed something, where, and how.
    """
    changed = second.of_status("changed")
    if changed:
        raise AnsibleError(
            f"playbook {str(second.playbook)!r} on layout {environment.plan.layout!r} "
            f"({environment.name}): not idempotent, its second run changed again:\n"
            + "\n".join(described(task) for task in changed)
            + f"\nlog: {second.log}",
            second,
        )


def described(task: TaskResult) -> str:
    """A task that changed, with its place and its diff, indented."""
    lines = (task.diff or task.message or "it tells no more").splitlines()
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"... ({len(lines) - _MOST_LINES} lines more)"]
    place = f", {task.path}" if task.path else ""
    return "\n".join([f"  {task}{place}:", *(f"    {line}".rstrip() for line in lines)])
