"""Each command, on a live environment; and what it says to a mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.errors import Problem
from pytest_carthage.planning.targets import installed
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.state import run as runs
from pytest_carthage.state.listing import list_environments
from tests.cli.conftest import Run

Up = Callable[..., str]
Capture = pytest.CaptureFixture[str]


def complaint(capfd: Capture, *arguments: str, status: int = 2) -> str:
    """What a command says that fails."""
    capfd.readouterr()
    assert main(arguments) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("pytest-carthage: ")
    return err.removeprefix("pytest-carthage: ").rstrip("\n")


# up


def test_up_stays_and_says_how_to_get_in(up: Up) -> None:
    printed = up().splitlines()
    assert printed[0].startswith("test-pair: stays for ")
    assert printed[1:] == [
        "  one: eth0 10.0.0.1/24",
        "  two: eth0 10.0.0.2/24",
        "get in:  pytest-carthage shell test-pair/one",
        "remove:  pytest-carthage rm test-pair",
    ]
    (alive,) = list_environments()
    assert alive.kept


def test_up_shows_progress_on_standard_error(folder: Path, command: Run) -> None:
    done = command("up", "layouts.py:Pair", "--name=seen", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["name"] == "seen-pair"
    assert "seen-pair: done in " in done.stderr
    assert "seen-pair: two: done in " in done.stderr


def test_up_refuses_a_name_that_is_taken(up: Up, capfd: Capture) -> None:
    up()
    assert complaint(capfd, "up", "layouts.py:Pair", "--name=test") == (
        "--name test: a run of this name is alive; see: pytest-carthage ls"
    )


def test_up_that_fails_says_where_the_rest_is(folder: Path, capfd: Capture) -> None:
    log = folder / "state/artifacts/late/up/late-late/one/log.txt"
    message = complaint(capfd, "up", "layouts.py:Late", "--name=late", "-q", status=1)
    assert message.startswith("machine 'one' of layout 'Late': no port 80 after 0.2 s (last: ")
    assert f"; log: {log}; try: less {log}; it printed last:\n  no port\n" in message
    assert message.endswith(f"what its machines printed: {log.parents[1]}")
    assert log.read_text() == "no port\n"
    assert list_environments() == []


def test_up_keeps_what_does_not_come_up_where_that_is_wanted(folder: Path, capfd: Capture) -> None:
    more = ("-q", "--keep-on-fail")
    message = complaint(capfd, "up", "layouts.py:Late", "--name=late", *more, status=1)
    assert "; try: pytest-carthage logs one; it printed last:\n  no port\n" in message
    assert message.endswith(
        "kept, as far as it stands: pytest-carthage shell late-late/one (or exec, logs); remove: "
        "pytest-carthage rm late-late"
    )
    assert main(["exec", "late-late/one", "--", "true"]) == 0
    message = complaint(capfd, "up", "layouts.py:Broken", "--name=broken", *more, status=1)
    assert "\nnothing is kept: no machine came to life\nwhat its machines printed: " in message
    assert [each.name for each in list_environments()] == ["late-late"]


def test_up_waits_for_a_run_of_its_name_that_is_ending(up: Up, folder: Path) -> None:
    portal = Portal()
    run = portal.call(runs.Run.join, "test")

    async def leave() -> None:
        run.close()

    leaving = threading.Timer(0.3, lambda: portal.call(leave))
    leaving.start()  # nothing of it is left, and its supervisor is still there
    try:
        up()
    finally:
        leaving.join()
        portal.close()


def test_up_refuses_what_makes_no_sense(folder: Path, capfd: Capture) -> None:
    assert complaint(capfd, "up", "layouts.py:Pair", "--keep-for=8").startswith(
        "--keep-for: '8' is no duration; "
    )
    assert complaint(capfd, "up", "layouts.py:Pair", "--name=A").startswith("--name A: small ")
    assert complaint(capfd, "up", "layouts.py:Pear").startswith("layout 'layouts.py:Pear': ")
    there_are = ", ".join(sorted(installed()))
    assert f"; try: one of {there_are}" in complaint(capfd, "up", "layouts.py:Guest")
    assert "target 'cloud' is unknown" in complaint(
        capfd, "up", "layouts.py:Pair", "--target=cloud"
    )


def test_up_on_a_lacking_host_names_the_remedy(
    folder: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack = Problem(who="netns", what="no namespaces", remedy="another kernel")
    monkeypatch.setattr(NetnsProvider, "check", lambda self, plan=None: [lack])
    assert complaint(capfd, "up", "layouts.py:Pair", "-q", status=1) == (
        "this host lacks:\n  netns: no namespaces; try: another kernel"
    )


# ls


def test_ls_without_environments_says_so(folder: Path, capfd: Capture) -> None:
    assert main(["ls"]) == 0
    assert capfd.readouterr().out == "no environment is alive\n"
    assert main(["ls", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == []


def test_ls_shows_what_is_alive(up: Up, capfd: Capture) -> None:
    up()
    assert main(["ls"]) == 0
    head, row = capfd.readouterr().out.splitlines()
    assert head.split() == ["ENVIRONMENT", "LAYOUT", "MACHINES", "AGE", "STAYS", "OWNER"]
    assert row.startswith("test-pair    Pair    one, two  ")
    assert "stays for 8 h (until " in row
    assert row.endswith("gone")


def test_ls_json_has_what_a_program_needs(up: Up, capfd: Capture) -> None:
    up()
    assert main(["ls", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert row["name"] == "test-pair"
    assert row["run"] == "test"
    assert row["kept"] is True
    assert row["owner_alive"] is False
    assert row["networks"]["lan"]["subnet"] == "10.0.0.0/24"
    assert row["machines"]["two"]["links"][0]["gateway"] == "10.0.0.1"
    assert Path(row["socket"]).is_socket()


# exec


def test_exec_passes_on_streams_and_status(up: Up, command: Run) -> None:
    up()
    done = command(
        "exec", "one", "--", "sh", "-c", "cat; hostname; echo no >&2; exit 7", stdin="in\n"
    )
    assert done.returncode == 7
    assert done.stdout == "in\none\n"
    assert done.stderr == "no\n"


def test_exec_gives_a_killed_command_the_status_of_a_shell(up: Up) -> None:
    up()
    assert main(["exec", "one", "--", "sh", "-c", "kill -TERM $$"]) == 128 + signal.SIGTERM


def test_exec_takes_user_folder_and_environment(up: Up, capfd: Capture) -> None:
    up()
    argv = ["exec", "-u", "nobody", "-C", "/usr", "-e", "GREETING=hi", "one"]
    assert main([*argv, "--", "sh", "-c", "id -un; pwd; echo $GREETING"]) == 0
    assert capfd.readouterr().out == "nobody\n/usr\nhi\n"


def test_exec_passes_on_signals(up: Up, folder: Path) -> None:
    up()
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        [sys.executable, "-m", "pytest_carthage", "exec", "one", "--", "sh", "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(10) == 5


def test_exec_refuses_what_makes_no_sense(up: Up, capfd: Capture) -> None:
    up()
    assert complaint(capfd, "exec", "one") == (
        "which command? try: pytest-carthage exec one -- COMMAND"
    )
    assert complaint(capfd, "exec", "-e", "X", "one", "--", "true") == "--env X: write NAME=VALUE"
    assert complaint(capfd, "exec", "one", "--", "no-such-program", status=127).startswith(
        "cannot run 'no-such-program': "
    )
    assert complaint(capfd, "exec", "-u", "stranger", "one", "--", "id", status=1).startswith(
        "cannot run 'id': "
    )


# MACHINE


def test_machine_is_found_by_its_name_alone_as_long_as_it_is_the_only_one(
    up: Up, capfd: Capture
) -> None:
    up(name="first")
    up("layouts.py:Single", name="second")
    assert main(["exec", "two", "--", "true"]) == 0
    assert complaint(capfd, "exec", "one", "--", "true") == (
        "machine 'one': which one? there are: first-pair/one, second-single/one"
    )
    assert main(["exec", "second-single/one", "--", "true"]) == 0
    assert main(["exec", "second/one", "--", "true"]) == 0


def test_unknown_machine_lists_what_there_is(up: Up, capfd: Capture) -> None:
    nothing = complaint(capfd, "exec", "one", "--", "true")
    assert nothing.startswith("machine 'one': no environment is alive; see `pytest-carthage ls`")
    up(name="first")
    known = "environment 'first-pair' has no machine 'six'; its machines are: one, two"
    assert complaint(capfd, "exec", "six", "--", "true") == known
    assert complaint(capfd, "exec", "first-pair/six", "--", "true") == known
    assert complaint(capfd, "exec", "other/one", "--", "true") == (
        "no environment 'other' is alive; there are: first-pair"
    )
    up("layouts.py:Single", name="second")
    assert complaint(capfd, "exec", "six", "--", "true") == (
        "no machine 'six' is alive; there are: first-pair/one, first-pair/two, second-single/one"
    )


# logs


def test_logs_prints_what_the_main_process_printed(up: Up, capfd: Capture) -> None:
    up()
    deadline = time.monotonic() + 5
    out = ""
    while not out and time.monotonic() < deadline:
        assert main(["logs", "one"]) == 0
        out = capfd.readouterr().out
    assert out == "born\n"
    assert main(["logs", "one", "-n", "0"]) == 0
    assert capfd.readouterr().out == ""


def test_logs_of_a_silent_machine_says_so(up: Up, capfd: Capture) -> None:
    up()
    assert main(["logs", "two"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "(machine 'two' has printed nothing)\n"


def test_logs_follow_ends_with_the_environment(up: Up, folder: Path) -> None:
    up()
    with subprocess.Popen(
        [sys.executable, "-m", "pytest_carthage", "logs", "-f", "one"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"born\n"
        assert main(["rm", "test-pair"]) == 0
        assert process.wait(10) == 0


# graph and plan


def test_graph_draws_the_only_live_environment(up: Up, capfd: Capture) -> None:
    up()
    assert main(["graph"]) == 0
    alive = capfd.readouterr().out
    assert "lan  10.0.0.0/24" in alive
    assert main(["graph", "layouts.py:Pair"]) == 0
    assert capfd.readouterr().out == alive


@pytest.mark.parametrize(
    ("name", "beginning"),
    [("g.svg", "<svg"), ("g.mmd", "flowchart"), ("g.md", "```mermaid\nflow"), ("g.txt", "Pair")],
)
def test_graph_writes_the_form_of_the_suffix(folder: Path, name: str, beginning: str) -> None:
    assert main(["graph", "layouts.py:Pair", "-o", name]) == 0
    assert (folder / name).read_text().startswith(beginning)


def test_graph_refuses_what_is_not_there(folder: Path, capfd: Capture) -> None:
    assert complaint(capfd, "graph").startswith("no environment is alive; ")
    assert complaint(capfd, "graph", "test-pear") == (
        "'test-pear' is no live environment (alive: none) and no registered layout (none); "
        "try PATH.py:Class for a layout in a file"
    )
    assert complaint(capfd, "graph", "layouts.py:Pair", "-o", "no/g.svg", status=1) == (
        "cannot write no/g.svg: No such file or directory"
    )


def test_plan_tells_the_order(folder: Path, capfd: Capture) -> None:
    assert main(["plan", "layouts.py:Pair"]) == 0
    out = capfd.readouterr().out
    assert "built in this order, what is on one line at once\n  1. one\n  2. two\n" in out


def test_plan_json_has_waves_and_problems(
    folder: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack = Problem(who="netns", what="no namespaces", remedy="another kernel")
    monkeypatch.setattr(NetnsProvider, "check", lambda self, plan=None: [lack])
    assert main(["plan", "layouts.py:Pair", "--json"]) == 1
    planned = json.loads(capfd.readouterr().out)
    assert planned["waves"] == [["one"], ["two"]]
    assert planned["problems"] == [
        {"who": "netns", "what": "no namespaces", "remedy": "another kernel"}
    ]
    assert planned["machines"]["one"]["addresses"] == {"eth0": "10.0.0.1/24"}


# rm and gc


def test_rm_looks_all_names_up_before_the_first_goes(up: Up, capfd: Capture) -> None:
    up()
    assert complaint(capfd, "rm", "test-pair", "other") == (
        "no environment 'other' is alive; there are: test-pair"
    )
    assert len(list_environments()) == 1
    assert main(["rm", "test"]) == 0
    assert capfd.readouterr().out == "removed test-pair\n"
    assert list_environments() == []


def test_rm_all_removes_what_is_kept(up: Up, capfd: Capture) -> None:
    assert complaint(capfd, "rm") == (
        "name the environments to destroy, or give --all (see: pytest-carthage ls)"
    )
    up(name="first")
    up(name="second")
    assert main(["rm", "--all"]) == 0
    assert capfd.readouterr().out == "removed first-pair\nremoved second-pair\n"
    assert main(["rm", "--all"]) == 0
    assert capfd.readouterr().out == "no environment is kept\n"


def test_gc_leaves_what_is_alive_and_removes_what_a_dead_run_left(
    up: Up, folder: Path, capfd: Capture
) -> None:
    up()
    (folder / "state/runs/dead/envs/dead-pair").mkdir(parents=True)
    assert main(["gc"]) == 0
    assert capfd.readouterr().out == "removed environment dead-pair\n"
    assert len(list_environments()) == 1
    assert main(["gc", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == []
    assert main(["gc"]) == 0
    assert capfd.readouterr().out == "nothing to remove\n"


# the whole


def test_reader_that_goes_away_is_no_traceback(up: Up, folder: Path) -> None:
    up()
    done = subprocess.run(
        f"{sys.executable} -m pytest_carthage ls --json | true",
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.stderr == ""
