"""What a bundle has of one environment and its machines."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import FabricError
from pytest_carthage.handles.kept import Kept
from pytest_carthage.handles.result import Result
from pytest_carthage.report.bundle import machine as machine_pages
from pytest_carthage.report.bundle import whole as whole_logs
from pytest_carthage.report.bundle.environment import write_environment
from pytest_carthage.report.bundle.machine import write_machine
from pytest_carthage.report.bundle.whole import WholeLogs
from pytest_carthage.report.times import clock
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
    assert part["meanwhile"] == []
    assert "lan  10.0.0.0/24" in (inside / "graph.txt").read_text()
    assert part["machines"]["web"] == {
        "target": "netns",
        "hostname": "web",
        "live": True,
        "way": None,
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
        "last_command": f"[{clock(101.0)}] $ during: status 0 after 0.100 s",
        "last_lines": ["started"],
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
    assert part["web"]["missing"] == {"log.txt": "it has printed nothing"}


def test_machine_that_was_never_ready_has_the_picture_of_its_screen(
    logs: Path, folder: Path
) -> None:
    (logs / "web.png").write_bytes(b"a picture")
    part = written(Observed(logs), folder)["machines"]
    assert part["web"]["files"] == ["screen.png"]
    assert (folder / "run-shop/web/screen.png").read_bytes() == b"a picture"


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


def test_log_is_that_of_the_test_and_the_whole_one_stays(logs: Path, folder: Path) -> None:
    log = logs / "db.log"
    log.write_text("of before\nof the test\n")
    environment = Observed(logs, ObservedMachine("web", log="of before\nof the test\n"))
    (logs / "web.log").write_text("of before\nof the test\n")
    sizes = {"web.log": 10, "db.log": 10}
    whole = folder.parent / "run-shop.logs"
    asyncio.run(write_environment(environment, folder, since_s=100.0, since=sizes))
    for name in ("web", "db"):
        assert (folder / f"run-shop/{name}/log.txt").read_text() == (
            f"[10 bytes of before the test are left out; all of it: {whole}/{name}.log]\n"
            "of the test\n"
        )
    with log.open("a") as file:
        file.write("of later\n")
    log.unlink()  # the environment is gone
    assert (whole / "db.log").read_text() == "of before\nof the test\nof later\n"


def test_long_log_of_a_test_has_its_beginning_and_its_end(logs: Path, folder: Path) -> None:
    (logs / "db.log").write_text("first\n" + "much\n" * 1_000_000 + "last\n")
    written(Observed(logs), folder)
    text = (folder / "run-shop/db/log.txt").read_text()
    assert len(text) < 1_400_000
    remark, first = text.splitlines()[:2]
    assert "bytes of the test itself are left out; all of it: " in remark
    assert first == "first"
    assert text.endswith("much\nlast\n")
    assert "much\n[... " in text


def test_log_that_cannot_be_linked_is_copied_once(
    logs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr(whole_logs, "_MOST_COPIED", 4)
    whole = WholeLogs(folder)
    path = whole.keep("run-shop", logs / "db.log")
    assert path.read_text() == "isk\n"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("as it was")
    assert whole.keep("run-shop", logs / "db.log").read_text() == "as it was"


def test_logs_of_earlier_plays_stay_once(logs: Path, folder: Path) -> None:
    for name, at_s in (("ansible-site.log", 99.0), ("ansible-more.log", 101.0)):
        (logs / name).write_text(name)
        os.utime(logs / name, (at_s, at_s))
    part = written(Observed(logs), folder)
    assert part["files"][-1] == "ansible-more.log"
    assert part["earlier"] == [str(folder.parent / "run-shop.logs/ansible-site.log")]
    assert not (folder / "run-shop/ansible-site.log").exists()
    assert Path(part["earlier"][0]).read_text() == "ansible-site.log"


def test_commands_that_are_left_out_are_told_where_they_were_of_the_test(
    logs: Path, folder: Path
) -> None:
    commands = Kept[Result](head=0, tail=1)
    for number in (99.0, 101.0, 102.0):
        commands.append(result(f"at {number:g}", number))
    web = ObservedMachine("web", commands=commands)
    path = folder / "run-shop/web/commands.txt"
    written(Observed(logs, web), folder)
    assert path.read_text().startswith("[the oldest 2 commands are left out]\n")
    written(Observed(logs, web), folder, since_s=101.5)
    assert path.read_text().startswith("["), "its first line is the time of a command"
    assert "left out" not in path.read_text()


def test_journal_that_cannot_be_asked_for_is_missing(logs: Path, folder: Path) -> None:
    own = asyncio.run(
        write_machine(
            ObservedMachine("web"),
            folder / "web",
            logs / "web.log",
            has_journal=True,
            since_s=0.0,
        )
    )
    assert own.pages.missing == {"journal.txt": "FabricError: no run here"}


def test_screen_of_a_machine_that_has_one_is_there_and_its_owners_alone(
    logs: Path, folder: Path
) -> None:
    part = written(Observed(logs, ObservedMachine("web", screen=b"a picture")), folder)
    path = folder / "run-shop/web/screen.png"
    assert "screen.png" in part["machines"]["web"]["files"]
    assert path.read_bytes() == b"a picture"
    assert path.stat().st_mode & 0o777 == 0o600


def test_screen_that_cannot_be_had_is_missing_and_costs_nothing_else(
    logs: Path, folder: Path
) -> None:
    dead = ObservedMachine("web", screen=b"", error=FabricError("it is off"))
    part = written(Observed(logs, dead), folder)["machines"]["web"]
    assert part["missing"]["screen.png"] == "FabricError: it is off"
    assert "commands.txt" in part["files"]


def test_screen_that_takes_too_long_is_missing(
    logs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(ObservedMachine):
        async def screenshot(self) -> bytes:
            await asyncio.sleep(60)
            return b""

    monkeypatch.setattr(machine_pages, "_SCREEN_S", 0.01)
    part = written(Observed(logs, Slow("web", screen=b"")), folder)["machines"]["web"]
    assert part["missing"]["screen.png"] == "no picture within 0.01 s"
    assert "commands.txt" in part["files"]


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
