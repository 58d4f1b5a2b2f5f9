"""Programs of the host: what they say, how they end, and that they end with us."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.execution import Ended, environment, run, tied
from pytest_carthage.fabric.host.namespaces import apart, as_root_of_files


def sh(script: str, **options: object) -> Ended:
    return asyncio.run(run(["sh", "-c", script], **options))  # type: ignore[arg-type]


def test_program_that_failed_tells_its_status_and_its_last_lines() -> None:
    lines: list[str] = []
    ended = sh("for n in $(seq 20); do echo line $n; done; echo >&2 bad; exit 3", tell=lines.append)
    assert ended.status == 3
    assert lines == [*(f"line {n}" for n in range(1, 21)), "bad"]
    assert ended.lines == tuple(lines[-15:])
    assert ended.text.startswith("  line 7\n  line 8\n")
    assert ended.output == b""


def test_output_that_is_kept_is_not_told() -> None:
    lines: list[str] = []
    ended = sh("echo out; echo err >&2", keep_output=True, tell=lines.append)
    assert (ended.output, lines, ended.lines) == (b"out\n", ["err"], ("err",))


def test_program_has_its_input_its_variables_and_its_folder(tmp_path: Path) -> None:
    ended = sh(
        'cat; echo "$X $LC_ALL $PATH"; pwd',
        input=b"in\n",
        env={"X": "1"},
        cwd=tmp_path,
        keep_output=True,
    )
    path = environment()["PATH"]
    assert ended.output.decode() == f"in\n1 C.UTF-8 {path}\n{tmp_path}\n"


def test_program_that_is_not_there_is_told() -> None:
    ended = asyncio.run(run(["no-such-program"]))
    assert ended.status == 127
    with pytest.raises(BuildError, match=r"sh could not be started: .*nowhere"):
        sh("true", cwd=Path("/nowhere"))


def test_cancelled_program_is_gone_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! $$ > {pids}; wait"

    async def cancel() -> None:
        running = asyncio.create_task(run(["sh", "-c", script]))
        deadline = time.monotonic() + 20
        while not (pids.exists() and pids.read_text().endswith("\n")):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancel())
    deadline = time.monotonic() + 20
    for pid in pids.read_text().split():
        while _lives(pid):  # its descriptors are closed a little before
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_command_is_tied_once() -> None:
    assert tied(["true"]) == ["setpriv", "--pdeathsig", "KILL", "true"]
    assert tied(tied(["true"])) == tied(["true"])


@pytest.mark.parametrize(
    ("privileged", "network", "words"),
    [
        (True, True, []),
        (True, False, ["--net"]),
        (False, True, ["--map-root-user", "--map-auto"]),
        (False, False, ["--map-root-user", "--map-auto", "--net"]),
    ],
)
def test_namespaces_are_what_was_asked_for(
    privileged: bool, network: bool, words: list[str]
) -> None:
    command = apart(privileged=privileged, network=network)
    assert command[:4] == ["setpriv", "--pdeathsig", "KILL", "unshare"]
    assert command[4:-5] == words
    assert command[-5:] == ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def test_files_of_layers_are_seen_as_their_root_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert as_root_of_files(["ls"]) == ["ls"]
    assert as_root_of_files(["ls"], "--mount") == ["unshare", "--mount", "--", "ls"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    user = ["unshare", "--user", "--map-root-user", "--map-auto"]
    assert as_root_of_files(["ls"]) == [*user, "--", "ls"]
    assert as_root_of_files(["ls"], "--mount") == [*user, "--mount", "--", "ls"]
