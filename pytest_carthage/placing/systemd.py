"""systemd as the first process of a machine that shares its kernel with others."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, TypeVar

from pytest_carthage.errors import FabricError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["COMMAND", "FILES", "JOBS", "booted", "explained", "given_up", "unfinished"]

T = TypeVar("T")

#: act on the clock, in the midst of a test
_TIMERS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "man-db.timer",
)
#: want what a kernel gives to its owner alone, or the console that is the machine's log
_OUT_OF_PLACE = ("console-getty.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount")

#: as on a server: without arguments
COMMAND = ("/sbin/init",)


def _beside(unit: str) -> str:
    """Path of what is added to a unit, before anything that others add."""
    return f"/run/systemd/system/{unit}.d/00-carthage.conf"


#: path to text of what it finds in the machine's ``/run``, see systemd.unit(5), systemd.timer(5),
#: systemd-system.conf(5) and journald.conf(5). A timer can be enabled and started as on a server,
#: and is just not due.
FILES = {
    **{_beside(unit): "[Timer]\nOnCalendar=\nOnCalendar=2199-12-31\n" for unit in _TIMERS},
    **{_beside(unit): "[Unit]\nConditionVirtualization=!container\n" for unit in _OUT_OF_PLACE},
    "/run/systemd/system.conf.d/00-carthage.conf": "[Manager]\nShowStatus=error\n",
    "/run/systemd/journald.conf.d/00-carthage.conf": "[Journal]\nForwardToConsole=yes\n",
}

#: prints what it is about to do, a job a line, see systemctl(1)
JOBS = ("systemctl", "list-jobs", "--no-legend", "--no-pager")

_LOOK_S = 0.1
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LINE = r"^(?:\[ *[0-9.]+\] )?(?:systemd\[1\]: )?"
#: without it systemd waits for what never comes, or ends
_FATAL = re.compile(_LINE + r"(Failed to create (?:[\w ]+ )?inotify object: .+)$", re.MULTILINE)
#: its last words, in a container and elsewhere
_LAST = re.compile(_LINE + r"(?:Exiting PID 1|Freezing execution)", re.MULTILINE)
#: what the kernel may be short of, see errno(3)
_SHORT = re.compile(
    _LINE + r"(Failed to .+: (?:Too many open files(?: in system)?|No space left on device"
    r"|Resource temporarily unavailable|Cannot allocate memory|Disk quota exceeded))$",
    re.MULTILINE,
)
_EMERGENCY = re.compile(r"^\[!+\] (.+)$", re.MULTILINE)


def given_up(printed: str) -> str | None:
    """Why systemd does not start, by what it printed on its console; None: it does not say so."""
    text = _COLOURS.sub("", printed).replace("\r", "")
    if match := _FATAL.search(text):
        return match[1]
    if not _LAST.search(text):
        return None
    match = _SHORT.search(text) or _EMERGENCY.search(text)
    return match[1] if match else "it gave up, and did not say why"


def unfinished(jobs: str) -> str:
    """What systemd is still doing, by what :data:`JOBS` printed: the names of units.

    Those that only wait for others are counted; empty: there are no jobs.
    """
    rows = [row for line in jobs.splitlines() if len(row := line.split()) == 4]
    running = [f"{unit} ({kind})" for _, unit, kind, state in rows if state == "running"]
    waiting = [unit for _, unit, _, state in rows if state != "running"]
    if not running:
        return ", ".join(waiting)
    rest = f" and {len(waiting)} that wait for them" if waiting else ""
    return ", ".join(running) + rest


def remedy(reason: str) -> str:
    """What to do about that, as the end of a message; empty where it is the machine's own."""
    if "inotify" in reason:
        return "; try: sysctl -w fs.inotify.max_user_instances=1024, or fewer machines at a time"
    if _SHORT.match(reason):
        return "; try: pytest-carthage doctor, or fewer machines at a time"
    return ""


async def booted(boot: Awaitable[T], read: Callable[[], str]) -> T:
    """Wait for a boot, which ends at once when systemd says on its console that it gives up.

    :param read: gives what has been printed since its start.
    :raises FabricError: it gave up, with the reason; or whatever the boot raises.
    """
    booting = asyncio.ensure_future(boot)
    hearing = asyncio.ensure_future(_hear_given_up(read))
    try:
        await asyncio.wait((booting, hearing), return_when=asyncio.FIRST_COMPLETED)
        if booting.done():
            return await booting
        raise _failure(await hearing)
    finally:
        for task in (booting, hearing):
            task.cancel()
        await asyncio.gather(booting, hearing, return_exceptions=True)


@contextlib.contextmanager
def explained(read: Callable[[], str]) -> Iterator[None]:
    """A block whose errors are told with the reason that systemd gave on its console, if any.

    :param read: gives what has been printed since its start.
    """
    try:
        yield
    except FabricError as error:
        if (reason := given_up(read())) is None:
            raise
        raise _failure(reason) from error


def _failure(reason: str) -> FabricError:
    return FabricError(f"systemd did not start: {reason}{remedy(reason)}")


async def _hear_given_up(read: Callable[[], str]) -> str:
    """Wait until systemd says that it gives up; returns why."""
    seen = ""
    while True:
        text = await asyncio.to_thread(read)
        if text != seen and (reason := given_up(text)):
            return reason
        seen = text
        # a file that grows: nothing tells of it
        await asyncio.sleep(_LOOK_S)
