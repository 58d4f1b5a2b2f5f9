"""What there is of memory and processors for a machine that has limits, as its programs see it.

Programs size themselves by what the kernel says that there is: caches by ``/proc/meminfo``, workers
by the number of processors. Where a machine has less than its host, these files are its own.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.fabric import fuse, limits
from pytest_carthage.fabric import syscalls as sys_

if TYPE_CHECKING:
    from pytest_carthage.fabric.spec import LimitsSpec, MachineSpec
    from pytest_carthage.fabric.wire.server import Server

#: where they are mounted
_FOLDER = "/run/carthage-shares"
_MEMINFO, _CPUINFO, _STAT = "/proc/meminfo", "/proc/cpuinfo", "/proc/stat"
_ONLINE = "/sys/devices/system/cpu/online"
#: field of meminfo to what it is the sum of in a control group: of version 2; of version 1
_FIELDS = {
    "Cached": (("file",), ("total_cache",)),
    "Active": (("active_anon", "active_file"), ("total_active_anon", "total_active_file")),
    "Inactive": (
        ("inactive_anon", "inactive_file"),
        ("total_inactive_anon", "total_inactive_file"),
    ),
    "Active(anon)": (("active_anon",), ("total_active_anon",)),
    "Inactive(anon)": (("inactive_anon",), ("total_inactive_anon",)),
    "Active(file)": (("active_file",), ("total_active_file",)),
    "Inactive(file)": (("inactive_file",), ("total_inactive_file",)),
    "Unevictable": (("unevictable",), ("total_unevictable",)),
    "Dirty": (("file_dirty",), ("total_dirty",)),
    "Writeback": (("file_writeback",), ("total_writeback",)),
    "AnonPages": (("anon",), ("total_rss",)),
    "Mapped": (("file_mapped",), ("total_mapped_file",)),
    "Shmem": (("shmem",), ("total_shmem",)),
    "SReclaimable": (("slab_reclaimable",), ()),
    "SUnreclaim": (("slab_unreclaimable",), ()),
}


def processors(given: LimitsSpec | None) -> int | None:
    """How many processors a machine sees, of which it may use a part; None: all of the host's."""
    if given is None or given["cpus"] is None:
        return None
    count = math.ceil(given["cpus"])
    return count if count < len(os.sched_getaffinity(0)) else None


def take_processors(spec: MachineSpec) -> None:
    """Have the calling process run on as many as its machine sees; which, is by its name."""
    count = processors(spec["limits"])
    if count is None:
        return
    there = sorted(os.sched_getaffinity(0))
    first = zlib.crc32(spec["control_group"].encode())
    os.sched_setaffinity(0, {there[(first + n) % len(there)] for n in range(count)})


def listed(text: str) -> set[int]:
    """Processors by a list of the kernel's, as in ``0-2,5``."""
    ranges = [part.partition("-") for part in text.strip().split(",")]
    return {
        number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)
    }


class Shares:
    """The files of a machine that is started, answered for by the fabric.

    Its child mounts and shows them, and says so; then the fabric listens.

    :raises OSError: the host has no file systems of programs.
    """

    def __init__(self, spec: MachineSpec, server: Server) -> None:
        root = spec.get("root")
        # who has an uptime of his own is started now
        files = _files(spec, int(clock.unix_s()) if root is not None else None)
        #: what they are shown in place of
        self._paths = tuple(files)
        self._folder = f"{_FOLDER}/{spec['name']}"
        texts = {os.path.basename(path): text for path, text in files.items()}
        self._texts = fuse.Texts(texts, owner=root["ids"][0] if root is not None else 0)
        self._server = server
        self.fd = self._texts.fd
        self._is_heard = False
        self._is_open = True

    def mount(self) -> None:
        """Mount them, where only the caller and who has his mounts sees them.

        :raises OSError: the kernel refused, named in the message.
        """
        fuse.mount(self.fd, self._folder)

    def show(self, root: str = "") -> None:
        """Show them in the ``/proc`` and ``/sys`` below a root; waits for the fabric.

        :raises OSError: the kernel refused, named in the message.
        """
        for path in self._paths:
            sys_.mount(f"{self._folder}/{os.path.basename(path)}", root + path, None, sys_.MS_BIND)

    def listen(self) -> None:
        """Answer who opens them: they are mounted. (Before, the kernel has nothing but errors.)"""
        self._server.watch(self.fd, self._answer)
        self._is_heard = True

    def _answer(self) -> None:
        if not self._texts.answer():
            self.close()

    def close(self) -> None:
        """Let go of them: the machine has ended."""
        if self._is_heard:
            self._server.unwatch(self.fd)
            self._is_heard = False
        if self._is_open:
            self._texts.close()
            self._is_open = False


def begin(spec: MachineSpec, server: Server) -> Shares | None:
    """Files of a machine's own; None: it needs none, or the host cannot have them."""
    if not _files(spec, None):
        return None
    try:
        return Shares(spec, server)
    except OSError:  # no such device, or not for us: what the machine sees is the host's
        return None


def _files(spec: MachineSpec, started_at_s: int | None) -> dict[str, Callable[[], str]]:
    found: dict[str, Callable[[], str]] = {}
    memory_mib = limits.memory_mib(spec)
    if memory_mib is not None:
        found[_MEMINFO] = lambda: meminfo(spec["control_group"], memory_mib)
    count = processors(spec["limits"])
    if count is not None:
        found[_CPUINFO] = lambda: cpuinfo(count)
        found[_STAT] = lambda: activity(count, started_at_s)
        found[_ONLINE] = lambda: f"0-{count - 1}\n" if count > 1 else "0\n"
    return found


def meminfo(group: str, memory_mib: int) -> str:
    """What ``/proc/meminfo`` is for the members of a control group, see proc(5)."""
    used, counters = limits.used_memory(group)
    total = min(memory_mib << 20, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    free = max(0, total - used)
    fields = {
        name: sum(counters.get(counter, 0) for counter in (*second, *first))
        for name, (second, first) in _FIELDS.items()
    }
    available = free + fields["Active(file)"] + fields["Inactive(file)"] + fields["SReclaimable"]
    rows = {
        "MemTotal": total,
        "MemFree": free,
        "MemAvailable": min(total, available),
        "Buffers": 0,
        "SwapCached": 0,
        **fields,
        "SwapTotal": 0,
        "SwapFree": 0,
        "Slab": fields["SReclaimable"] + fields["SUnreclaim"],
    }
    return "".join(f"{name + ':':<16}{value >> 10:>8} kB\n" for name, value in rows.items())


def cpuinfo(count: int) -> str:
    """The host's ``/proc/cpuinfo``, as far as its first processors."""
    parts = _read(_CPUINFO).split("\n\n")
    kept = [part for part in parts if (number := _number(part)) is None or number < count]
    return "\n\n".join(kept)


def _number(part: str) -> int | None:
    match = re.match(r"processor\s*:\s*(\d+)", part)
    return int(match[1]) if match else None


def activity(count: int, started_at_s: int | None) -> str:
    """The host's ``/proc/stat``, with only its first processors.

    :param started_at_s: when the machine was; None: when the host was.
    """
    own, others = [], []
    for line in _read(_STAT).splitlines():
        name, _, values = line.partition(" ")
        if name == "btime" and started_at_s is not None:
            others.append(f"btime {started_at_s}")
        elif not name.startswith("cpu"):
            others.append(line)
        elif name[3:].isdecimal() and int(name[3:]) < count:
            own.append((name, [int(value) for value in values.split()]))
    sums = [sum(column) for column in zip(*(values for _, values in own), strict=True)]
    rows = [f"{name} {' '.join(map(str, values))}" for name, values in own]
    return "\n".join([f"cpu  {' '.join(map(str, sums))}", *rows, *others, ""])


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
