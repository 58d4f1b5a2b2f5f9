"""The ProxyCommand, as a program."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

from pytest_carthage.fabric.wire import frames
from pytest_carthage.ssh import knock

PROGRAM = [sys.executable, "-I", "-S", knock.__file__]


def run(folder: Path, *, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, str(folder), "web"],
        input=input,
        capture_output=True,
        timeout=30,
        check=False,
    )


def answered(listener: socket.socket, *, word: bytes) -> list[bytes]:
    """Answer one visitor, and send back what he sends; returns where what he wants will be."""
    heard: list[bytes] = []

    def answer() -> None:
        with listener, listener.accept()[0] as sock, sock.makefile("rwb", buffering=0) as file:
            heard.append(file.readline())
            file.write(word + b"\n")
            if not word:
                file.write(file.read()[::-1])

    threading.Thread(target=answer, daemon=True).start()
    return heard


def test_streams_are_carried_both_ways_until_the_other_end_closes(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)  # more than the address of a socket takes
    folder.mkdir()
    heard = answered(frames.listen(str(folder / knock.SOCKET)), word=b"")
    done = run(folder, input=b"abc" * 100_000)
    assert done.stdout == b"cba" * 100_000
    assert json.loads(heard[0]) == {"machine": "web"}
    assert (done.returncode, done.stderr) == (0, b"")


def test_refusal_is_told(tmp_path: Path) -> None:
    answered(frames.listen(str(tmp_path / knock.SOCKET)), word=b"machine 'web' is away")
    done = run(tmp_path)
    assert done.stderr == b"pytest-carthage: machine 'web' is away\n"
    assert (done.returncode, done.stdout) == (1, b"")


def test_environment_that_is_gone_is_told(tmp_path: Path) -> None:
    done = run(tmp_path / "gone")
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"pytest-carthage: no environment in {tmp_path}/gone: No such file or directory; see "
        "`pytest-carthage ls`, and write its configuration anew with `pytest-carthage ssh-config`\n"
    )


def test_supervisor_that_is_gone_is_told(tmp_path: Path) -> None:
    start = {
        "supervisor": str(tmp_path / "supervisor.sock"),
        "environment": "told-shop",
        "argv": [],
    }
    (tmp_path / knock.START).write_text(json.dumps(start))
    done = run(tmp_path)
    assert done.returncode == 1
    assert b"environment 'told-shop': its supervisor does not answer" in done.stderr
    assert not (tmp_path / knock.SOCKET).exists()


def test_porter_that_ends_without_a_word_is_told_with_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "porter.log").write_text("Traceback\nImportError: no asyncssh\n")
    with frames.listen(str(tmp_path / knock.SOCKET)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        done = run(tmp_path)
    assert done.returncode == 1
    assert b"has ended: ImportError: no asyncssh; log: " in done.stderr


def test_start_loads_nothing_that_takes_long(tmp_path: Path) -> None:
    code = f"import sys, runpy; runpy.run_path({knock.__file__!r}); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "asyncssh", "pathlib", "pytest_carthage", "subprocess"}
