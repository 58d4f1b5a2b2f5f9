"""Live environments as tables and as values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from pytest_carthage.cli import main
from pytest_carthage.cli.listing import has_owner, record
from tests.cli.alive import be_alive, listed

Capture = pytest.CaptureFixture[str]


def dead_process() -> int:
    """Number of a process that has ended, and was waited for."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_owner_is_a_process_that_lives_and_still_answers_for_it() -> None:
    assert has_owner(listed("a", owner_pid=os.getpid()))
    assert has_owner(listed("a", owner_pid=1)), "of another user perhaps, but alive"
    assert not has_owner(listed("a", owner_pid=os.getpid(), owned=False))
    assert not has_owner(listed("a", owner_pid=dead_process()))


def test_record_is_json_with_what_a_program_needs() -> None:
    environment = listed(
        "bakodi-shop",
        "web",
        kept=True,
        expires_at=1_700_000_060.0,
        description={"networks": {"lan": {"subnet": "10.0.0.0/24"}}},
    )
    assert json.loads(json.dumps(record(environment))) == {
        "name": "bakodi-shop",
        "run": "bakodi",
        "layout": "Shop",
        "machines": {"web": {"target": "netns"}},
        "networks": {"lan": {"subnet": "10.0.0.0/24"}},
        "created_at": 1_700_000_000.0,
        "kept": True,
        "expires_at": 1_700_000_060.0,
        "owner_pid": 1,
        "owner_alive": True,
        "folder": "/state/runs/bakodi/bakodi-shop",
        "socket": "/state/runs/bakodi/bakodi-shop/fabric.sock",
        "alive": True,
        "leftovers": [],
    }


def test_ls_shows_by_which_way_machines_are_reached_that_no_agent_is_in(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    machines = {"web": {"target": "netns"}, "db": {"target": "libvirt", "way": "agent"}}
    be_alive(monkeypatch, [listed("bakodi-shop", machines=machines)])
    main(["ls"])
    assert "  web, db (by agent)  " in capsys.readouterr().out


def test_ls_shows_ages_owners_and_the_first_machines(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    now_s = time.time()
    crowd = [f"m{number}" for number in range(9)]
    environments = [
        listed("bakodi-shop", "web", created_at=now_s - 3725, owned=False, kept=True),
        listed("bakodi-crowd", *crowd, created_at=now_s - 12),
        listed("bakodi-empty", created_at=now_s - 12),
    ]
    be_alive(monkeypatch, environments)
    assert main(["ls"]) == 0
    _, shop, crowded, empty = capfd.readouterr().out.splitlines()
    assert shop.split("  ")[0] == "bakodi-shop"
    assert "1 h 2 min" in shop
    assert "stays until it is removed" in shop
    assert shop.endswith("gone")
    assert "m0, m1, m2, m3, m4, m5, and 3 more" in crowded
    assert crowded.endswith("pid 1")
    assert "  -  " in empty


def test_rm_looks_all_names_up_before_the_first_one_goes(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    from pytest_carthage.state import listing

    removed: list[str] = []
    be_alive(monkeypatch, [listed("a"), listed("b", kept=True), listed("c", kept=True)])
    monkeypatch.setattr(listing, "destroy", lambda environment: removed.append(environment.name))
    assert main(["rm", "a", "z"]) == 2
    assert removed == []
    assert main(["rm", "a", "b", "a"]) == 0
    assert removed == ["a", "b"]
    removed.clear()
    capfd.readouterr()
    assert main(["rm", "--all"]) == 0
    assert removed == ["b", "c"]
    assert capfd.readouterr().out == "removed b\nremoved c\n"


@pytest.mark.parametrize("arguments", [[], ["--all", "a"]])
def test_rm_of_nothing_or_of_everything_and_something_is_refused(
    capfd: Capture, arguments: list[str]
) -> None:
    assert main(["rm", *arguments]) == 2
    assert "name the environments to destroy, or give --all" in capfd.readouterr().err
