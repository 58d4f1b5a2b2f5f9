"""Servers with Debian's standard kernel: what it can do, and tests of this project in them.

Each run has the essential part, :mod:`tests.stock_kernel.core`. The rest is for the night, ``tox -e
stock-kernel``: emulated, pytest takes longer to start there than all of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, MachineHandle
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.exports.tarball import save_tarball
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from tests.providers.conftest import DEBIAN
from tests.stock_kernel.guests import ENVIRONMENT, TAR, Bookworm, Core, Trixie
from tests.support.layouts import building
from tests.support.unprivileged import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

_PYTEST = [
    *(sys.executable, "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir=."),
    *("-p", "no:cacheprovider"),
]
#: emulated processors are slow, and two may be all that there are
_THERE = ["-n", "2", "--timeout=400", "--durations=10"]


def _listed(name: str) -> list[str]:
    """Tests of a list."""
    lines = Path(__file__).with_name(name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@contextlib.contextmanager
def _up(layout: type[Layout], state: Path) -> Iterator[MachineHandle]:
    """The guest of a layout, while the block runs."""
    problems = LibvirtProvider().check()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_STATE", str(state))
        with building(portal, {"libvirt": LibvirtProvider}) as build:
            yield build(layout)["guest"]


def _compile(*arguments: str) -> None:
    """Leave Python's bytecode beside the sources: whoever reads them there cannot write it."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=environment, check=True, timeout=300
    )


def _save_debian() -> None:
    """Write the image of the tests where they look for it."""
    with contextlib.closing(Portal()) as portal:
        built = portal.call(lambda: ensure(DEBIAN, portal=portal, note=lambda who, text: None))
    TAR.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(save_tarball(built, TAR))


def test_standard_kernel_makes_each_kind_of_link_and_fault(tmp_path: Path) -> None:
    core = ["-m", "tests.stock_kernel.core"]
    _compile("-m", "compileall", "-q", "pytest_carthage", "tests/stock_kernel")
    with _up(Core, tmp_path) as guest:
        assert guest.run("uname -r").stdout.rstrip().endswith("-amd64")
        assert "cloud" not in guest.run("uname -r").stdout
        done = guest.run(
            [sys.executable, *core],
            cwd=str(REPOSITORY),
            env=ENVIRONMENT,
            check=False,
            timeout_s=900,
        )
        print(done.stdout, done.stderr, sep="\n")
        assert done.ok, done.stdout + done.stderr
    for seen in ("802.1Q", "bond", "GRE", "VXLAN", "macvlan", "netem", "VRF", "VLAN", "WireGuard"):
        assert f"  {seen}" in done.stdout


@pytest.mark.emulated
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("layout", "tests"),
    [(Bookworm, "all.txt"), (Trixie, "essential.txt")],
    ids=["Debian 12", "Debian 13"],
)
def test_tests_pass_there(layout: type[Layout], tests: str, tmp_path: Path) -> None:
    _save_debian()
    _compile(*_PYTEST[1:], "-q", "--collect-only", *_listed(tests))
    with _up(layout, tmp_path) as guest:
        assert guest.run("stat -fc %T /sys/fs/cgroup").stdout == "cgroup2fs\n"
        assert guest.run("cat /proc/1/comm").stdout == "systemd\n"
        began = time.monotonic()
        done = guest.run(
            [*_PYTEST, *_THERE, *_listed(tests)],
            cwd=str(REPOSITORY),
            env=ENVIRONMENT,
            check=False,
            timeout_s=1700,
        )
        print(done.stdout, done.stderr, f"{time.monotonic() - began:.0f} s", sep="\n")
        assert done.ok, "\n".join(done.lines[-100:])


@pytest.mark.parametrize("name", ["all.txt", "essential.txt"])
def test_lists_name_tests_that_are_there(name: str) -> None:
    listed = _listed(name)
    assert listed
    for path in listed:
        assert (REPOSITORY / path).exists(), path
