"""``shell``, on a terminal of the test's own."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from tests.cli.terminal import Terminal


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
