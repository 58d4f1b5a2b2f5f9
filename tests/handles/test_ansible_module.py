"""What a module did, in a few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_carthage.handles.ansible_module import ModuleResult, ModuleResults
from pytest_carthage.handles.playbook import Status


def result(host: str, status: Status, message: str = "", **values: Any) -> ModuleResult:
    return ModuleResult(host=host, status=status, values=values, message=message, duration_s=0.5)


def results(*each: ModuleResult) -> ModuleResults:
    return ModuleResults(
        module="setup",
        hosts={result.host: result for result in each},
        absent=(),
        log=Path("setup.log"),
        duration_s=1.0,
    )


def test_result_has_what_the_module_said_and_the_names_of_its_values_alone() -> None:
    facts = {f"fact_{number:02}": "x" * 5000 for number in range(40)}
    assert repr(result("web", "ok", **facts)) == (
        "<ModuleResult of web: ok, with fact_00, fact_01, fact_02, fact_03, fact_04, and 35 more>"
    )
    assert repr(result("web", "failed", "no such file")) == (
        "<ModuleResult of web: failed, 'no such file'>"
    )
    assert len(repr(result("web", "failed", "x" * 5000))) < 140


def test_results_name_machines_that_failed_or_else_changed() -> None:
    assert repr(results()) == "setup: no machine"
    assert repr(results(result("web", "ok"), result("db", "changed"))) == (
        "setup: 1 changed, 1 ok: db"
    )
    assert repr(results(result("web", "failed"), result("db", "changed"))) == (
        "setup: 1 changed, 1 failed: web"
    )
    assert repr(results(result("web", "ok"))) == "setup: 1 ok"
