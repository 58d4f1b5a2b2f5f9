"""``ls``, ``gc``, ``doctor`` and ``rm`` of what could not be destroyed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.cli.leftovers import sentence
from pytest_carthage.errors import StateError
from pytest_carthage.state import listing
from pytest_carthage.state.leftovers import leftovers
from pytest_carthage.state.listing import Listed, Listing
from tests.state.dead import DeadRun

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def dead(folder: Path) -> Iterator[DeadRun]:
    """A run whose machines are on a target that is not installed here."""
    dead = DeadRun(folder / "state")
    yield dead
    shutil.rmtree(dead.folder, ignore_errors=True)


def test_ls_says_what_is_not_destroyed_and_why(dead: DeadRun, capfd: Capture) -> None:
    identity = dead.intend(dead.identity("web", kind="moon", id="m-7"))
    dead.fail(identity, "RuntimeError: eclipse", at=time.time() - 300)
    dead.fail(identity, "RuntimeError: eclipse", at=time.time() - 180)
    dead.intend(dead.identity("db", kind="moon"))
    assert main(["ls"]) == 0
    assert capfd.readouterr().out == (
        "no environment is alive\n"
        "not destroyed yet:\n"
        "  moon dead-shop/db: its run was killed (it was not tried to destroy it)\n"
        "  moon dead-shop/web (id=m-7): RuntimeError: eclipse "
        "(tried twice, the last time 3 min ago)\n"
        "try again: pytest-carthage gc\n"
    )


def test_ls_json_has_what_is_not_destroyed_by_environment(dead: DeadRun, capfd: Capture) -> None:
    identity = dead.intend(dead.identity("web", kind="moon", id="m-7"))
    dead.fail(identity, "eclipse", at=1000.0)
    assert main(["ls", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert (row["name"], row["run"], row["alive"]) == ("dead-shop", "dead", False)
    assert row["machines"] == {}
    assert row["leftovers"] == [
        {
            "kind": "moon",
            "environment": "dead-shop",
            "name": "web",
            "detail": {"id": "m-7"},
            "run": "dead",
            "run_id": dead.id,
            "error": "eclipse",
            "tried_at": 1000.0,
            "tries": 1,
            "log": str(dead.folder / "supervisor.log"),
        }
    ]


def test_ls_complains_of_a_run_that_does_not_answer(
    dead: DeadRun, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Listing(environments=(), silent=("run 'ci': its supervisor is asleep",))
    monkeypatch.setattr(listing, "look", lambda: silent)
    assert main(["ls"]) == 1
    assert capfd.readouterr().err == "pytest-carthage: run 'ci': its supervisor is asleep\n"


def test_doctor_says_what_is_not_destroyed(dead: DeadRun, capfd: Capture) -> None:
    identity = dead.intend(dead.identity("web", kind="moon"))
    dead.fail(identity, "eclipse", at=time.time())
    assert main(["doctor", "runs"]) == 1
    out = capfd.readouterr().out.splitlines()
    assert out[0] == "runs: 1 not destroyed"
    assert out[1].startswith("  moon dead-shop/web: eclipse (tried once, the last time ")
    assert out[2] == f"    try: pytest-carthage gc; log: {dead.folder / 'supervisor.log'}"


def test_doctor_without_names_tells_of_runs_only_what_is_wrong(
    dead: DeadRun, capfd: Capture
) -> None:
    main(["doctor", "--json"])
    assert "runs" not in json.loads(capfd.readouterr().out)
    dead.intend(dead.identity("web", kind="moon"))
    assert main(["doctor", "--json"]) == 1
    assert len(json.loads(capfd.readouterr().out)["runs"]) == 1


def test_doctor_of_runs_where_nothing_is_left_is_content(folder: Path, capfd: Capture) -> None:
    assert main(["doctor", "runs"]) == 0
    assert capfd.readouterr().out == "runs: nothing is left\n"


def test_gc_that_cannot_remove_all_fails_and_says_what(dead: DeadRun, capfd: Capture) -> None:
    identity = dead.intend(dead.identity("web", kind="moon"))
    assert main(["gc"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"pytest-carthage: not removed: {identity}: LookupError: no provider of ")
    (left,) = leftovers()
    assert sentence(left).endswith("(tried once, the last time 0 s ago)")


def test_gc_json_lists_what_was_removed(dead: DeadRun, capfd: Capture) -> None:
    assert main(["gc", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == ["environment dead-shop"]


def test_rm_goes_on_with_others_when_one_cannot_be_destroyed(
    folder: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(name: str) -> Listed:
        return Listed(
            name=name,
            run="ci",
            layout="Shop",
            run_folder=folder,
            folder=folder / name,
            machines={},
            created_at=0.0,
            kept=True,
            expires_at=None,
            owner_pid=1,
            owned=False,
            description={},
        )

    def destroy(environment: Listed) -> None:
        if environment.name == "ci-a":
            raise StateError("environment 'ci-a': something of it could not be destroyed")

    with monkeypatch.context() as patch:
        patch.setattr(listing, "list_environments", lambda: [listed("ci-a"), listed("ci-b")])
        patch.setattr(listing, "destroy", destroy)
        assert main(["rm", "--all"]) == 1
    out, err = capfd.readouterr()
    assert out == "removed ci-b\n"
    assert err == "pytest-carthage: environment 'ci-a': something of it could not be destroyed\n"
