"""What people are shown of Ansible's code that no test has reached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_carthage.report.coverage import missing, table
from pytest_carthage.work.ansible.coverage.coverage import (
    Condition,
    Coverage,
    Source,
    State,
    Task,
    Template,
)

ROOT = Path("/product")


def task(line: int, state: State, kind: str = "task") -> Task:
    return Task(
        line=line, name=f"task {line}", kind="handler" if kind == "handler" else "task", state=state
    )


def condition(line: int, *, true: bool, false: bool) -> Condition:
    return Condition(
        line=line, column=9, text="x > 1", whose=f"task {line}", was_true=true, was_false=false
    )


VALUE = Coverage(
    root=ROOT,
    sources=(
        Source(path=ROOT / "other.yml", role="", tasks=(), conditions=()),
        Source(
            path=ROOT / "roles/web/handlers/main.yml",
            role="web",
            tasks=(task(1, "never", "handler"),),
            conditions=(),
        ),
        Source(
            path=ROOT / "roles/web/tasks/debian.yml",
            role="web",
            tasks=(task(1, "never"), task(3, "never")),
            conditions=(condition(2, true=False, false=False),),
        ),
        Source(
            path=ROOT / "roles/web/tasks/main.yml",
            role="web",
            tasks=(task(1, "ran"), task(5, "skipped"), task(9, "never"), task(12, "ran")),
            conditions=(
                condition(6, true=False, false=True),
                condition(13, true=True, false=False),
                condition(14, true=True, false=True),
            ),
        ),
    ),
    templates=(
        Template(path=ROOT / "roles/web/templates/a.j2", role="web", was_read=True),
        Template(path=ROOT / "roles/web/templates/b.j2", role="web", was_read=False),
    ),
)


def test_what_was_not_reached_is_told_by_file_and_line() -> None:
    assert missing(VALUE) == [
        "roles/web/handlers/main.yml:1: handler 'task 1' was never reached",
        "roles/web/tasks/debian.yml: none of its 2 tasks was ever reached",
        "roles/web/tasks/main.yml:6: when: x > 1 (task 6) was never true",
        "roles/web/tasks/main.yml:9: task 'task 9' was never reached",
        "roles/web/tasks/main.yml:13: when: x > 1 (task 13) was never false",
        "roles/web/templates/b.j2: template that was never read",
    ]


def test_condition_that_only_failed_is_told_and_one_after_a_false_one_is_not() -> None:
    source = Source(
        path=ROOT / "site.yml",
        role="",
        tasks=(task(1, "skipped"), task(5, "skipped")),
        conditions=(
            condition(2, true=False, false=False),
            replace(condition(6, true=False, false=True), whose="task 5"),
            replace(condition(7, true=False, false=False), whose="task 5"),
        ),
    )
    source = replace(
        source, conditions=(replace(source.conditions[0], whose="task 1"), *source.conditions[1:])
    )
    assert missing(Coverage(root=ROOT, sources=(source,), templates=())) == [
        "site.yml:2: when: x > 1 (task 1) never had an answer",
        "site.yml:6: when: x > 1 (task 5) was never true",
    ]


def test_sums_are_told_by_role() -> None:
    assert table(VALUE) == [
        "            tasks  handlers  templates  branches",
        "other.yml       -         -          -         -",
        "web        2 of 6    0 of 1     1 of 2    4 of 8",
        "total      2 of 6    0 of 1     1 of 2    4 of 8",
    ]


def test_path_outside_of_the_root_is_told_in_full() -> None:
    assert VALUE.shown(Path("/elsewhere/site.yml")) == "/elsewhere/site.yml"
