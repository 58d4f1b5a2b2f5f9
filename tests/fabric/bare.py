"""A fabric that is asked by blocking clients, without anything of a layout around it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_carthage.fabric.wire import client, frames
from pytest_carthage.fabric.wire.client import Client
from tests.fabric import patched
from tests.fabric.specs import machine_spec
from tests.support.unprivileged import REPOSITORY

#: what may be called at once on a busy host
AT_ONCE_S = 1.5
#: a main process that takes no goodbye, and one that does
STUBBORN = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
POLITE = ["sleep", "1000"]


def ping(address: str, limit_s: int) -> list[str]:
    """A command that ends well as soon as an address answers, within about this time.

    ping(8) alone gives up with the first word of the kernel that somebody cannot be reached, which
    may be about what was sent before.
    """
    once = f"ping -c1 -W1 {address} >/dev/null 2>&1 && exit 0; sleep 0.1"
    loop = f"until [ $(date +%s) -gt $end ]; do {once}; done; exit 1"
    return ["sh", "-c", f"end=$(($(date +%s) + {limit_s})); {loop}"]


class Fabric:
    """A fabric, asked by blocking clients."""

    def __init__(self, path: str, process: subprocess.Popen[str]) -> None:
        self.path = path
        #: ends, with all that is in the fabric, with its standard input
        self.process = process

    def client(self, machine: str | None = None) -> Client:
        """One more client."""
        return client.connect(self.path, machine)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask with a connection of one's own."""
        with self.client() as connection:
            reply, fds = connection.request(op, **fields)
            frames.close_all(fds)
            return reply

    def quickly(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask; the answer is there at once."""
        begin = time.monotonic()
        reply = self.ask(op, **fields)
        assert time.monotonic() - begin < AT_ONCE_S, op
        return reply

    def make(self, name: str, **spec: Any) -> None:
        """Make a machine."""
        reply = self.ask("machines", machines=[machine_spec(name, **spec)], hosts="")
        assert reply["failed"] == {}

    @contextlib.contextmanager
    def meanwhile(self, op: str, **fields: Any) -> Iterator[Client]:
        """Ask something, and do something else before the answer."""
        with self.client() as connection:
            connection.send(op, **fields)
            yield connection

    def end(self) -> None:
        """Be gone, as its owner is."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def faults(self) -> list[tuple[str, list[str]]]:
        """Kind and machines of each fault in force."""
        return [(fault["kind"], fault["machines"]) for fault in self.ask("status")["faults"]]

    def run(self, machine: str, command: str) -> tuple[int, bytes]:
        """Run a shell command in a machine; returns its status and what it printed."""
        with self.client(machine) as inside:
            status, out, err = inside.run(["sh", "-c", command], timeout_s=30)
        return status, out + err


def start(path: Path, code: str) -> subprocess.Popen[str]:
    """Start a fabric, some of which ``code`` has replaced; it ends with its standard input."""
    process = subprocess.Popen(
        [sys.executable, str(Path(patched.__file__)), str(path), code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process
