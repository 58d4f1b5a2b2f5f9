"""Why systemd does not start, read off its console."""

from __future__ import annotations

import asyncio

import pytest

from pytest_carthage.errors import FabricError
from pytest_carthage.placing import systemd

ENDED = """\
\x1b[0;1;31mFailed to create symlink /sys/fs/cgroup/net_cls: Read-only file system\x1b[0m\r
\x1b[0;1;31mFailed to create control group inotify object: Too many open files\x1b[0m\r
\x1b[0;1;31mFailed to allocate manager object: Too many open files\x1b[0m\r
[\x1b[0;1;31m!!!!!!\x1b[0m] Failed to allocate manager object.\r
\x1b[0;1;31mExiting PID 1...\x1b[0m\r
"""


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (ENDED, "Failed to create control group inotify object: Too many open files"),
        (
            "[    0.64] systemd[1]: Failed to create inotify object: Too many open files\n",
            "Failed to create inotify object: Too many open files",
        ),
        (
            "[!!!!!!] Failed to mount API filesystems.\nFreezing execution.\n",
            "Failed to mount API filesystems.",
        ),
        (
            "[   10.2] systemd[1]: Failed to fork off sandboxing environment for executing"
            " generators: Cannot allocate memory\n[!!!!!!] Failed to start up manager.\n"
            "systemd[1]: Freezing execution.\n",
            "Failed to fork off sandboxing environment for executing generators:"
            " Cannot allocate memory",
        ),
        ("Exiting PID 1...\n", "it gave up, and did not say why"),
    ],
)
def test_reason_is_what_it_said_of_what_it_lacks(printed: str, reason: str) -> None:
    assert systemd.given_up(printed) == reason


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Failed to create symlink /sys/fs/cgroup/net_cls: Read-only file system\n",
        "[ 1.0] systemd[1]: own.path: Failed to enter waiting state: Too many open files\n",
        "[ 1.0] own[30]: Failed to create inotify object: Too many open files\n",
        "[ 1.0] systemd[1]: own.service: Failed to fork: Resource temporarily unavailable\n",
    ],
)
def test_units_that_fail_are_no_failed_boot(printed: str) -> None:
    assert systemd.given_up(printed) is None


@pytest.mark.asyncio
async def test_boot_ends_when_it_gives_up_and_not_before() -> None:
    console = ["starting\n"]

    async def never() -> None:
        await asyncio.sleep(0)
        console[0] += ENDED
        await asyncio.Event().wait()

    with pytest.raises(
        FabricError,
        match=r"did not start: Failed to create control group inotify object: Too many open"
        r" files; try: sysctl -w fs\.inotify\.max_user_instances=",
    ):
        await systemd.booted(never(), lambda: console[0])


@pytest.mark.asyncio
async def test_boot_that_succeeds_gives_its_own_answer() -> None:
    async def boot() -> str:
        return "running"

    assert await systemd.booted(boot(), lambda: "") == "running"


def test_other_error_is_told_by_the_console_only_if_that_gave_a_reason() -> None:
    with pytest.raises(FabricError, match="it is gone"), systemd.explained(lambda: "starting"):
        raise FabricError("it is gone")
    with pytest.raises(FabricError, match="inotify object"), systemd.explained(lambda: ENDED):
        raise FabricError("it is gone")


@pytest.mark.parametrize(
    ("jobs", "units"),
    [
        (
            "  1 multi-user.target start waiting\n 58 slow.service start running\n"
            " 2 graphical.target start waiting\n",
            "slow.service (start) and 2 that wait for them",
        ),
        (
            "7 a.service start running\n8 b.mount stop running\n",
            "a.service (start), b.mount (stop)",
        ),
        ("7 a.service start waiting\n", "a.service"),
        ("", ""),
        ("Failed to connect to bus: No such file or directory\n", ""),
    ],
)
def test_units_that_systemd_waits_for_are_named(jobs: str, units: str) -> None:
    assert systemd.unfinished(jobs) == units
