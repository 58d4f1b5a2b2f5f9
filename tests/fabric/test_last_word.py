"""A fabric that ends says in its log why."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.host import netns_lacks
from tests.support.unprivileged import REPOSITORY

pytestmark = pytest.mark.real

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ the fabric ends: "
#: an owner, which lets go of its fabric with the end of its standard input
OWNER = """
import os, sys
from pathlib import Path
from pytest_carthage.fabric.host import privilege
from pytest_carthage.state import fabrics
exec(sys.argv[2])
reading, writing = os.pipe()
unprivileged = not privilege.is_privileged()
print(fabrics.fork_fabric(Path(sys.argv[1]), reading, unprivileged=unprivileged, close=[writing]))
sys.stdout.flush()
sys.stdin.read()
"""


class Lone:
    """A fabric without a run around it."""

    def __init__(self, folder: Path, code: str) -> None:
        self._log = folder / "fabric.log"
        self.owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        assert self.owner.stdout is not None
        self._process = os.pidfd_open(int(self.owner.stdout.readline()))

    def last_word(self) -> str:
        """What it has said when it is gone, beside what it kept of who started it."""
        assert select.select([self._process], [], [], 20)[0], "the fabric is still there"
        lines = self._log.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("kept of who started it: "))

    def send(self, number: int) -> None:
        """Signal it."""
        signal.pidfd_send_signal(self._process, number)

    def close(self) -> None:
        """End its owner, and so it."""
        self.owner.communicate(timeout=20)
        assert select.select([self._process], [], [], 20)[0], "the fabric is still there"
        os.close(self._process)


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Callable[..., Lone]]:
    """Makes one fabric, some of which is not as it should be."""
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    made: list[Lone] = []

    def make(code: str = "") -> Lone:
        made.append(Lone(tmp_path, code))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_fabric_whose_owner_is_gone_says_so(lone: Callable[..., Lone]) -> None:
    fabric = lone()
    fabric.owner.kill()
    assert re.fullmatch(STAMP + "its owner has let go of it, or is gone\n", fabric.last_word())


def test_fabric_that_is_told_to_end_says_so(lone: Callable[..., Lone]) -> None:
    fabric = lone()
    fabric.send(signal.SIGTERM)
    assert re.fullmatch(STAMP + "somebody has sent it SIGTERM\n", fabric.last_word())


def test_fabric_that_crashes_says_where(lone: Callable[..., Lone]) -> None:
    said = lone("""
import ctypes
from pytest_carthage.fabric.wire.server import Server
def run(self):
    ctypes.string_at(0)
Server.run = run
""").last_word()
    assert said.startswith("Fatal Python error: Segmentation fault\n")
    assert "in run\n" in said
    assert 'pytest_carthage/state/fabrics.py", line' in said


def test_fabric_that_fails_later_ends_with_a_traceback_and_is_no_second_supervisor(
    lone: Callable[..., Lone],
) -> None:
    fabric = lone("""
from pytest_carthage.fabric.wire.server import Server
def run(self):
    raise RuntimeError("no more memory")
Server.run = run
""")
    said = fabric.last_word()
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith("RuntimeError: no more memory\n")
