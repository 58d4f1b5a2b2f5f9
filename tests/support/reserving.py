"""Layouts with hosts of a rack that tests reserve, use and give back."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Ssh
from pytest_carthage.errors import CreationError, FabricError
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.ssh import SshProvider
from tests.support.layouts import Build, end
from tests.support.rack import LEASE, Rack

__all__ = [
    "NEEDS_RACK",
    "PROVIDERS",
    "alone",
    "answers",
    "deputy",
    "leased",
    "live",
    "refused",
    "until",
]

#: marks of a module whose tests have a rack
NEEDS_RACK = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="a rack of our own needs root"),
]
PROVIDERS: Any = {"netns": NetnsProvider, "ssh": SshProvider}


def alone(on: Ssh) -> type[Layout]:
    """A layout of one host."""
    return Layout.of("Lab", {"db": Machine(on=on)})


@contextlib.contextmanager
def live(build: Build, layout: type[Layout] | Ssh) -> Iterator[Any]:
    """A layout, or that of one host, for the time of a block."""
    made = build(alone(layout) if isinstance(layout, Ssh) else layout)
    try:
        yield made
    finally:
        end(made)


def refused(build: Build, on: Ssh) -> str:
    """What is told of a host that cannot be reserved."""
    with pytest.raises(CreationError) as caught:
        build(alone(on))
    assert "s3cr3t" not in str(caught.value)
    return str(caught.value)


def until(condition: Callable[[], Any], what: str, limit_s: float = 30.0) -> None:
    """Wait for something; ``what`` is told if it does not come."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def answers(machine: Any) -> bool:
    """Whether a machine runs a command."""
    with contextlib.suppress(FabricError):
        return bool(machine.run("true").ok)
    return False


def leased(host: Rack) -> str:
    """What the lease says that lies on a host; empty: none does."""
    return host.run(f"readlink {LEASE}", check=False).partition(" ")[2].strip()


def deputy(host: Rack) -> int:
    """The process that answers for a host."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_text()
            if "channels.ssh.deputy" in line and f"--target {host.pid} " in line:
                found.append(int(process.name))
    (process_id,) = found
    return process_id
