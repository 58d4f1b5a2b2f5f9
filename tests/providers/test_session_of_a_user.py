"""Machines of a user who has logged in where systemd is the first process, version 2 alone.

Few hosts that run tests are such: the servers of ``tox -e stock-kernel`` are.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.fabric.container import groups
from pytest_carthage.store.built import Built
from tests.support.ordinary import User, users
from tests.support.unprivileged import REPOSITORY

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/run/systemd/system").is_dir() or not groups.is_unified(),
        reason="needs systemd as the first process, control groups of version 2 alone, and root",
    ),
]

_BOUNDED = str(REPOSITORY / "tests/providers/bounded.py")
_PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "--carthage-strict",
    "--timeout=1300",
]
_SCOPE = ["systemd-run", "--user", "--scope", "--quiet", "-pDelegate=yes"]


@pytest.fixture(scope="module")
def user(built: Built) -> Iterator[User]:
    with users(built) as user:
        yield user


def in_session(user: User, argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a new session of a user, as login(1) makes them."""
    options = ["--wait", "--pipe", "--quiet", "--collect", f"--working-directory={REPOSITORY}"]
    env = [f"--setenv={name}={value}" for name, value in user.env.items()]
    start = ["systemd-run", *options, *env, "-pPAMName=login", f"-pUser={user.name}", "--"]
    return subprocess.run(
        [*start, *argv], capture_output=True, text=True, timeout=1400, check=False
    )


@pytest.mark.parametrize("beginning", [[], _SCOPE], ids=["plain", "in a scope"])
def test_session_gives_machines_control_groups(user: User, beginning: list[str]) -> None:
    done = in_session(user, [*beginning, *_PYTEST, _BOUNDED])
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert not list((user.folder / "state/runs").glob("[!.]*"))


def test_roots_machines_have_control_groups() -> None:
    done = subprocess.run(
        [*_PYTEST, _BOUNDED],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert not list(Path("/sys/fs/cgroup").glob("pytest-carthage*"))


def test_doctor_in_a_session_is_content(user: User) -> None:
    done = in_session(user, [sys.executable, "-m", "pytest_carthage", "doctor", "user"])
    assert "user: needs no root" in done.stdout, done.stdout + done.stderr
