"""What of production's code no test has reached, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.work.ansible.coverage.coverage import Coverage, Part, Source, Sum, Task

__all__ = ["missing", "table"]

_HEAD = ("", "tasks", "handlers", "templates", "branches")


def table(coverage: Coverage) -> list[str]:
    """Sums of each role and of each file of no role."""
    parts = coverage.parts
    rows = [_HEAD, *(_row(part) for part in (*parts, coverage.total))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(part: Part) -> tuple[str, str, str, str, str]:
    return (
        part.name,
        _of(part.tasks),
        _of(part.handlers),
        _of(part.templates),
        _of(part.branches),
    )


def _of(part: Sum) -> str:
    return f"{part.covered} of {part.total}" if part.total else "-"


def missing(coverage: Coverage) -> list[str]:
    """One line for all that no run has reached, by file and line."""
    lines: list[str] = []
    templates = [
        (coverage.shown(template.path), 0, "template that was never read")
        for template in coverage.templates
        if not template.was_read
    ]
    for source in coverage.sources:
        path = coverage.shown(source.path)
        lines += [
            f"{path}{f':{line}' if line else ''}: {text}"
            for line, text in sorted(_of_source(source))
        ]
    return lines + [f"{path}: {text}" for path, _, text in templates]


def _of_source(source: Source) -> Iterator[tuple[int, str]]:
    """Line and text; line 0 stands for the whole file."""
    never = [task for task in source.tasks if task.state == "never"]
    if len(never) == len(source.tasks) > 1:
        yield 0, f"none of its {_count(source.tasks)} was ever reached"
    else:
        for task in never:
            yield task.line, f"{task.kind} {task.name!r} was never reached"
    skipped = {task.name for task in source.tasks if task.state == "skipped"}
    # of several, those after a false one are not asked
    skipped -= {each.whose for each in source.conditions if each.was_false}
    for condition in source.conditions:
        text = f"when: {condition.text} ({condition.whose})"
        if not condition.was_asked:
            if condition.whose in skipped:
                yield condition.line, f"{text} never had an answer"
        elif not condition.was_true:
            yield condition.line, f"{text} was never true"
        elif not condition.was_false:
            yield condition.line, f"{text} was never false"


def _count(tasks: Sequence[Task]) -> str:
    handlers = sum(task.kind == "handler" for task in tasks)
    return f"{len(tasks)} {'handlers' if handlers == len(tasks) else 'tasks'}"
