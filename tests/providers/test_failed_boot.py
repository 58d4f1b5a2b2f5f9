"""A boot that fails for a limit of the kernel says so at once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pytest_carthage import Image, Layout, Machine, Role, filesystem_task
from pytest_carthage.errors import CreationError
from pytest_carthage.images.builder import ensure
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.work.files.filesystem import AsyncFilesystem
from tests.providers.conftest import DEBIAN, Podman
from tests.support.layouts import Build, Factories, building

pytestmark = pytest.mark.real

_LIMIT_S = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Init(Role):
    """Another first process, which may become systemd."""

    script: str

    @filesystem_task("put it in the place of systemd")
    async def replace(self, fs: AsyncFilesystem) -> None:
        await fs.run("rm /sbin/init")
        await fs.write_text("/sbin/init", f"#!/bin/sh\n{self.script}\n")
        await fs.run("chmod 755 /sbin/init")


def limited(instances: int) -> Image:
    """Has a systemd that gets so many inotify instances: the limit is of its own namespace."""
    script = (
        f'echo {instances} > /proc/sys/user/max_inotify_instances\nexec /lib/systemd/systemd "$@"'
    )
    return DEBIAN.with_(Init(script=script), name=f"limited-{instances}")


#: what a systemd prints that shares its limit with the host, where it cannot be set apart
TALKING = DEBIAN.with_(
    Init(
        script="echo 'Failed to create inotify object: Too many open files'\n"
        "trap 'exit 0' TERM; sleep 100 & wait"
    ),
    name="talking",
)


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Iterator[Build]:
    if os.geteuid() != 0:
        pytest.skip("machines with images are built by root")
    kinds: Factories = {"netns": NetnsProvider, "podman": Podman}
    kind = kinds[request.param]
    if problems := kind().check():
        pytest.skip("; ".join(map(str, problems)))
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {request.param: kind}) as build,
    ):
        image = request.node.callspec.params["image"]
        portal.call(lambda: ensure(image, portal=portal, note=lambda who, text: None))
        yield build


@pytest.mark.parametrize(
    ("build", "image"),
    [("netns", limited(0)), ("netns", limited(1)), ("podman", TALKING)],
    ids=["that ends", "that waits", "container"],
    indirect=["build"],
)
def test_boot_without_inotify_instances_says_so_at_once(build: Build, image: Image) -> None:
    class Short(Layout):
        """It has not what it needs."""

        m = Machine(image, init="systemd", ready_timeout_s=_LIMIT_S)

    begin = time.monotonic()
    with pytest.raises(
        CreationError,
        match=r"machine 'm' of layout 'Short': systemd did not start: Failed to create (control"
        r" group )?inotify object: Too many open files; try: sysctl -w fs\.inotify\.",
    ):
        build(Short)
    assert time.monotonic() - begin < _LIMIT_S / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow(Role):
    """A unit whose start takes longer than anybody waits."""

    @filesystem_task("have it start with the machine")
    async def enable(self, fs: AsyncFilesystem) -> None:
        text = (
            "[Service]\nType=oneshot\nExecStart=sleep 100\n[Install]\nWantedBy=multi-user.target\n"
        )
        await fs.write_text("/etc/systemd/system/slow.service", text)
        await fs.run("systemctl enable slow")


SLOW = DEBIAN.with_(Slow(), name="slow")


@pytest.mark.parametrize(
    ("build", "image"),
    [("netns", SLOW), ("podman", SLOW)],
    ids=["netns", "podman"],
    indirect=["build"],
)
def test_boot_that_takes_too_long_names_the_units(build: Build, image: Image) -> None:
    class Late(Layout):
        """It is never ready."""

        m = Machine(image, init="systemd", ready_timeout_s=4)

    with pytest.raises(
        CreationError,
        match=r"systemd did not start in 4 s \(last: (still )?starting: slow.service \(start\)",
    ):
        build(Late)
