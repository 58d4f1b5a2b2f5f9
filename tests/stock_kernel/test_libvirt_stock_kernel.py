"""Tests of this project, inside of servers with Debian's standard kernel.

``tox -e stock-kernel`` runs all of them, on all guests. Those that are essential run, on one guest,
with ``CARTHAGE_STOCK_KERNEL=essential``, and by themselves where there is KVM: emulated, a guest
takes a minute or two to start, and a Python in it as long as many tests, which is more than CI has.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import MachineHandle
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.exports.tarball import save_tarball
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.providers.libvirt.host import acceleration
from tests.providers.conftest import DEBIAN
from tests.stock_kernel.guests import ENVIRONMENT, TAR, Bookworm, Trixie
from tests.support.layouts import building
from tests.support.unprivileged import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

_ASKED = os.environ.get("CARTHAGE_STOCK_KERNEL", "")
_IS_ALL = _ASKED == "all"
_PYTEST = [
    *(sys.executable, "-m", "pytest", "-c", "tests/pytest.ini", "--rootdir=."),
    *("-p", "no:cacheprovider", "--timeout=300", "--durations=5"),
]


def _listed(name: str) -> list[str]:
    """Lines of a list of tests that are about tests."""
    lines = Path(__file__).with_name(name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


TESTS = _listed("all.txt" if _IS_ALL else "essential.txt")


@pytest.fixture(scope="module", params=[Bookworm, Trixie] if _IS_ALL else [Bookworm])
def guest(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MachineHandle]:
    """A server that is up, and has the image of the tests at hand."""
    problems = LibvirtProvider().check()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    if not _ASKED and acceleration().kind != "kvm":
        pytest.skip("its processors would be emulated, for minutes; by hand: tox -e stock-kernel")
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("state")))
        built = portal.call(lambda: ensure(DEBIAN, portal=portal, note=lambda who, text: None))
        TAR.parent.mkdir(parents=True, exist_ok=True)
        asyncio.run(save_tarball(built, TAR))
        with building(portal, {"libvirt": LibvirtProvider}) as build:
            yield build(request.param)["guest"]


def test_kernel_is_the_standard_one_with_groups_of_version_2(guest: MachineHandle) -> None:
    assert guest.run("uname -r").stdout.rstrip().endswith("-amd64")
    assert "cloud" not in guest.run("uname -r").stdout
    assert guest.run("stat -fc %T /sys/fs/cgroup").stdout == "cgroup2fs\n"
    assert guest.run("cat /proc/1/comm").stdout == "systemd\n"


@pytest.mark.parametrize("arguments", TESTS)
def test_tests_pass_there(guest: MachineHandle, arguments: str) -> None:
    began = time.monotonic()
    done = guest.run(
        [*_PYTEST, *shlex.split(arguments)],
        cwd=str(REPOSITORY),
        env=ENVIRONMENT,
        check=False,
        timeout_s=1700,
    )
    print(done.stdout, done.stderr, f"{time.monotonic() - began:.0f} s", sep="\n")
    assert done.ok, "\n".join(done.lines[-60:])


def test_lists_name_tests_that_are_there() -> None:
    for line in (*_listed("all.txt"), *_listed("essential.txt")):
        for path in (word for word in line.split() if word.startswith("tests/")):
            assert (REPOSITORY / path).exists(), path
