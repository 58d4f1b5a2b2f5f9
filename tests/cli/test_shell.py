"""``shell``, on a terminal of the test's own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage.cli import main


class Terminal:
    """A terminal with ``pytest-carthage`` in it."""

    def __init__(self, *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        self.resize(30, 111)
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest_carthage", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "dumb"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.seen = ""

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def expect(self, text: str, timeout_s: float = 10.0) -> None:
        """Read until ``text`` has come; what was before it is forgotten."""
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            ready, _, _ = select.select([self.ours], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.ours, 4096).decode()
        self.seen = self.seen.partition(text)[2]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.theirs)
        os.close(self.ours)


@pytest.fixture
def shell(up: Callable[..., str], folder: Path) -> Iterator[Terminal]:
    up()
    terminal = Terminal("shell", "one")
    yield terminal
    terminal.close()


def test_shell_is_in_the_machine_and_passes_its_status_on(shell: Terminal) -> None:
    shell.type("echo host-$(hostname)\n")
    shell.expect("host-one")
    shell.type("exit 9\n")
    assert shell.process.wait(10) == 9
    assert termios.tcgetattr(shell.theirs) == shell.before


def test_shell_has_the_size_of_our_terminal_and_follows_it(shell: Terminal) -> None:
    shell.type("stty size; echo done-1\n")
    shell.expect("30 111")
    shell.expect("done-1")
    shell.resize(40, 90)
    shell.process.send_signal(signal.SIGWINCH)
    shell.type("sleep 0.2; stty size\n")
    shell.expect("40 90")


def test_interrupt_key_goes_to_what_runs_there(shell: Terminal) -> None:
    # said by the process that gets the signal, so that it cannot come too early
    shell.type("sh -c \"echo be''gun; exec sleep 60\"; echo never\n")
    shell.expect("begun")
    shell.type("\x03")
    shell.type("echo st''ill here\n")
    shell.expect("still here")
    shell.type("exit\n")
    shell.process.wait(10)


def test_exec_with_a_terminal_gives_one(up: Callable[..., str], folder: Path) -> None:
    up()
    terminal = Terminal("exec", "-t", "one", "--", "sh", "-c", "tty && stty size")
    try:
        terminal.expect("/dev/pts/")
        terminal.expect("30 111")
        assert terminal.process.wait(10) == 0
    finally:
        terminal.close()


def test_shell_without_a_terminal_says_what_to_use(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main(["shell", "one"]) == 2
    assert capfd.readouterr().err == (
        "pytest-carthage: shell needs a terminal; for a script: "
        "pytest-carthage exec one -- COMMAND\n"
    )
