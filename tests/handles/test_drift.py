"""What has drifted, as people see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_carthage.handles.drift import Drift
from pytest_carthage.handles.playbook import HostResult, PlaybookResult, Status, TaskResult


def task(name: str, status: Status, **more: Any) -> TaskResult:
    values = {
        "play": "Site",
        "host": "web1",
        "message": "",
        "duration_s": 1.0,
        "path": "site.yml:3",
    }
    return TaskResult(name=name, status=status, **{**values, **more})


def run(*tasks: TaskResult, failed: int = 0, name: str = "site.yml") -> PlaybookResult:
    return PlaybookResult(
        playbook=Path("/tree") / name,
        hosts={"web1": HostResult(failed=failed)},
        tasks=tasks,
        unmatched=(),
        log=Path("/log"),
        duration_s=1.0,
    )


def test_result_is_told_in_one_line() -> None:
    result = run(
        *(task(f"t{n}", "ok") for n in range(20)),
        task("web : site is configured", "changed"),
    )
    assert repr(result) == "site.yml: 20 ok, 1 changed: web : site is configured (web1)"
    many = run(*(task(f"t{n}", "changed") for n in range(7)))
    assert repr(many) == (
        "site.yml: 7 changed: t0 (web1), t1 (web1), t2 (web1), t3 (web1), t4 (web1), and 2 more"
    )
    failed = run(task("t", "changed"), task("x", "failed"), task("y", "unreachable"))
    assert repr(failed) == (
        "site.yml: 1 unreachable, 1 failed, 1 changed: x (web1) failed, y (web1) unreachable"
    )
    assert repr(run()) == "site.yml: no task"


def test_task_is_told_by_what_became_of_it() -> None:
    assert repr(task("x", "changed", diff="secret")) == "<x (web1): changed, site.yml:3>"
    failed = task("Page", "failed", message="no\nsuch file", path="roles/web.yml:2")
    assert repr(failed) == r"<Page (web1): failed, 'no\nsuch file', roles/web.yml:2>"
    assert len(repr(task("Page", "failed", message="x" * 5000))) < 120


def test_no_drift_is_false() -> None:
    drift = Drift(runs=(run(task("a", "ok"), task("b", "skipped")),))
    assert not drift
    assert repr(drift) == "Drift of site.yml: 0 of 2 tasks would change"


def test_drift_names_what_would_change_and_what_was_not_checked() -> None:
    drift = Drift(
        runs=(
            run(
                task("Page", "changed", diff="--- before\n+++ after\n+x", path="roles/web.yml:2"),
                task("Migrate", "skipped", checked=False),
            ),
            run(task("a", "ok"), name="more.yml"),
        )
    )
    assert drift
    assert [each.name for each in drift.changed] == ["Page"]
    assert [each.name for each in drift.unchecked] == ["Migrate"]
    assert str(drift).splitlines() == [
        "Drift of site.yml, more.yml: 1 of 3 tasks would change: Page (web1); "
        "1 not checked: Migrate (web1)",
        "  Page (web1), roles/web.yml:2:",
        "    --- before",
        "    +++ after",
        "    +x",
    ]


def test_failure_in_check_mode_is_drift_unless_it_was_rescued() -> None:
    failing = task("Read", "failed", message="no such file")
    drift = Drift(runs=(run(failing, failed=1),))
    assert drift
    assert drift.failed == (failing,)
    assert "1 failed in check mode: Read (web1)" in repr(drift)
    assert "    no such file" in str(drift)
    assert not Drift(runs=(run(failing),))
