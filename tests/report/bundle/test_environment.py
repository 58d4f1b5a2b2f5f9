"""What a bundle has of one environment and its machines."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import FabricError
from pytest_carthage.handles.kept import Kept
from pytest_carthage.handles.result import Result
from pytest_carthage.report.bundle.environment import write_environment
from pytest_carthage.report.bundle.machine import write_machine
from tests.report.bundle.observed import Fault, Gate, Observed, ObservedMachine, Recording, Slice


def result(command: str, started_at: float) -> Result:
    return Result(
        machine="web",
        command=command,
        status=0,
        stdout="",
        stderr="",
        started_at=started_at,
        duration_s=0.1,
    )


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "db.log").write_text("no disk\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    return folder


def kept(*results: Result) -> Kept[Result]:
    commands = Kept[Result](head=9, tail=9)
    for each in results:
        commands.append(each)
    return commands


def written(environment: Observed, folder: Path, since_s: float = 100.0) -> dict[str, Any]:
    return asyncio.run(write_environment(environment, folder, since_s=since_s, until_s=200.0))


def test_environment_is_drawn_and_its_machines_are_looked_at(logs: Path, folder: Path) -> None:
    web = ObservedMachine(
        "web",
        commands=kept(result("before", 99.0), result("during", 101.0)),
        tables={"addresses": [{"interface": "eth0", "address": "10.0.0.1/24"}]},
    )
    part = written(Observed(logs, web), folder)
    inside = folder / "run-shop"
    assert part["layout"] == "Shop"
    assert part["files"] == ["graph.txt", "graph.mmd", "graph.svg"]
    assert part["missing"] == {}
    assert "lan  10.0.0.0/24" in (inside / "graph.txt").read_text()
    assert part["machines"]["web"] == {
        "target": "netns",
        "hostname": "web",
        "live": True,
        "files": [
            "log.txt",
            "observed.json",
            "addresses.txt",
            "routes.txt",
            "listening.txt",
            "processes.txt",
            "commands.txt",
            "commands.json",
        ],
        "missing": {},
    }
    assert (inside / "web/log.txt").read_text() == "started\n"
    assert (inside / "web/addresses.txt").read_text().splitlines()[1] == "eth0       10.0.0.1/24"
    assert (inside / "web/routes.txt").read_text() == "(none)\n"
    commands = json.loads((inside / "web/commands.json").read_text())
    assert [command["command"] for command in commands] == ["during"]


def test_last_words_of_who_holds_it_are_there_where_there_are_any(folder: Path) -> None:
    environment = folder / "runs/run/envs/run-shop"
    logs = environment / "logs"
    logs.mkdir(parents=True)
    (environment / "fabric.log").write_text("")
    (folder / "runs/run/supervisor.log").write_text("the fabric was ended by SIGKILL\n")
    part = written(Observed(logs), folder)
    assert part["files"] == ["graph.txt", "graph.mmd", "graph.svg", "supervisor.log"]
    assert "SIGKILL" in (folder / "run-shop/supervisor.log").read_text()


def test_machine_that_was_never_ready_has_its_log(logs: Path, folder: Path) -> None:
    part = written(Observed(logs), folder)["machines"]
    assert part["db"]["live"] is False
    assert part["db"]["files"] == ["log.txt"]
    assert (folder / "run-shop/db/log.txt").read_text() == "no disk\n"
    assert list(part["web"]["missing"]) == ["log.txt"], "it has printed nothing"


def test_machine_that_does_not_answer_costs_its_own_files_alone(logs: Path, folder: Path) -> None:
    web = ObservedMachine("web", error=FabricError("the other end is gone"))
    db = ObservedMachine("db")
    part = written(Observed(logs, web, db), folder)["machines"]
    assert part["web"]["missing"] == {
        "log.txt": "FabricError: the other end is gone",
        "observed.json": "FabricError: the other end is gone",
    }
    assert part["web"]["files"] == ["commands.txt", "commands.json"]
    assert part["db"]["missing"] == {}


def test_journal_that_cannot_be_asked_for_is_missing(logs: Path, folder: Path) -> None:
    pages = asyncio.run(
        write_machine(
            ObservedMachine("web"),
            folder / "web",
            logs / "web.log",
            has_journal=True,
            since_s=0.0,
        )
    )
    assert pages.missing == {"journal.txt": "FabricError: no run here"}


def test_faults_and_gates_are_written_where_there_were_any(logs: Path, folder: Path) -> None:
    environment = Observed(logs)
    environment.disturbances = [
        Fault("web: down", healed_s=99.0),
        Fault("web: slow", healed_s=101.0),
        Fault("db: down"),
    ]
    environment.gates = [Gate()]
    part = written(environment, folder)
    assert part["files"][-2:] == ["faults.json", "gates.json"]
    faults = json.loads((folder / "run-shop/faults.json").read_text())
    assert [fault["subject"] for fault in faults] == ["web: slow", "db: down"]
    gates = json.loads((folder / "run-shop/gates.json").read_text())
    assert gates == [{"machine": "web", "to": "db.example:5432"}]


def test_logs_of_playbooks_are_kept(logs: Path, folder: Path) -> None:
    (logs / "ansible-1.log").write_text("PLAY [all]\n")
    part = written(Observed(logs), folder)
    assert part["files"][-1] == "ansible-1.log"
    assert (folder / "run-shop/ansible-1.log").read_text() == "PLAY [all]\n"


def test_packets_are_those_of_the_test(logs: Path, folder: Path) -> None:
    environment = Observed(logs)
    environment.recording = Recording(Slice("lan", 7), Slice("dmz", 2, "the first 3 s"))
    part = written(environment, folder)
    assert part["packets"] == {
        "lan": {"packets": 7},
        "dmz": {"packets": 2, "lost": "the first 3 s"},
    }
    path = folder / "run-shop/packets.pcapng"
    assert path.read_text() == "100 to 200.0"
    assert path.stat().st_mode & 0o777 == 0o600


def test_packets_that_cannot_be_written_are_missing(logs: Path, folder: Path) -> None:
    environment = Observed(logs)
    environment.recording = Recording()
    part = written(environment, folder)
    assert "packets" not in part
    assert part["missing"] == {"packets.pcapng": "OSError: no space left on device"}
