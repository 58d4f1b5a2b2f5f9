"""A deputy by QEMU's guest agent: one that does what qemu-ga(8) does stands for it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.channels.agent import Interrupted
from pytest_carthage.channels.guest_agent import (
    GuestAgent,
    GuestAgentError,
    deputy_by_guest_agent,
)
from tests.channels.alone import ME
from tests.channels.conftest import Bench, served_by, settled


class Agent:
    """Serves one client after another, as QEMU's socket does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._running: dict[int, tuple[subprocess.Popen[bytes], Path]] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError), sock.makefile("rwb") as file:
                file.write(b'{"return": "of an earlier client"}\n')
                for line in file:
                    message = json.loads(line.lstrip(b"\xff"))
                    reply = self._answer(message["execute"], message.get("arguments", {}))
                    is_sync = message["execute"] == "guest-sync-delimited"
                    file.write((b"\xff" if is_sync else b"") + json.dumps(reply).encode() + b"\n")
                    file.flush()

    def _answer(self, command: str, given: dict[str, Any]) -> dict[str, Any]:
        if command == "guest-sync-delimited":
            return {"return": given["id"]}
        if command == "guest-exec":
            return self._execute(given)
        process, said = self._running[given["pid"]]
        if process.poll() is None:
            return {"return": {"exited": False}}
        done: dict[str, Any] = {"exited": True}
        done |= (
            {"signal": -process.returncode}
            if process.returncode < 0
            else {"exitcode": process.returncode}
        )
        for name, kind in (("out-data", "out"), ("err-data", "err")):
            if data := said.with_suffix(f".{kind}").read_bytes():
                done[name] = base64.b64encode(data).decode()
        return {"return": done}

    def _execute(self, given: dict[str, Any]) -> dict[str, Any]:
        said = self.path.with_name(f"said-{len(self._running)}")
        into = said.with_suffix(".in")
        into.write_bytes(base64.b64decode(given.get("input-data", "")))
        with (
            into.open("rb") as stdin,
            said.with_suffix(".out").open("wb") as out,
            said.with_suffix(".err").open("wb") as err,
        ):
            argv = [given["path"], *given["arg"]]
            try:
                process = subprocess.Popen(argv, stdin=stdin, stdout=out, stderr=err, cwd="/")
            except OSError as error:
                return {"error": {"class": "GenericError", "desc": str(error)}}
        self._running[process.pid] = process, said
        return {"return": {"pid": process.pid}}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with contextlib.closing(Agent(tmp_path / "qga.sock")) as made:
        yield made


@pytest.fixture
def bench(agent: Agent) -> Iterator[Bench]:
    with served_by(deputy_by_guest_agent(agent.path, env={"SHOP": "1"})) as made:
        yield made


def test_command_gives_its_output_and_status(bench: Bench) -> None:
    script = 'cat; echo "$SHOP $USER"; echo oops >&2; exit 3'
    ended = bench.run("sh", "-c", script, input=b"in\n")
    assert ended == (3, f"in\n1 {ME}\n".encode(), b"oops\n")
    assert bench.run("sh", "-c", "kill -TERM $$")[0] == -15


def test_files_are_written_and_read(bench: Bench, tmp_path: Path) -> None:
    files = bench.files()
    files.write_text(str(tmp_path / "a b"), "hello")
    assert (tmp_path / "a b").read_text() == "hello"
    assert files.read_text(str(tmp_path / "a b")) == "hello"


def test_way_is_told(bench: Bench) -> None:
    async def go() -> str | None:
        opened = await bench.channel()
        opened.close()
        return opened.way

    assert bench.portal.call(go) == "guest agent"


def test_command_that_nobody_waits_for_ends_there(bench: Bench, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 60"
    with pytest.raises(Interrupted):
        bench.run("sh", "-c", script, timeout_s=2)
    pid = int((tmp_path / "pid").read_text())

    def state() -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "Z"

    assert settled(state, "Z") == "Z"


def test_agent_that_never_answers_is_told_in_time(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "qga.sock"))
        deaf.listen()
        begin = time.monotonic()
        with pytest.raises(GuestAgentError, match="the guest agent does not answer: timed out"):
            GuestAgent(str(tmp_path / "qga.sock"), answer_s=0.3).ask("guest-ping")
        assert time.monotonic() - begin < 5


def test_refusal_of_the_agents_has_its_words(agent: Agent) -> None:
    with pytest.raises(GuestAgentError, match="No such file or directory: 'none-of-this'"):
        GuestAgent(os.fspath(agent.path)).ask("guest-exec", path="none-of-this", arg=[])
