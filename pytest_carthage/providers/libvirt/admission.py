"""Memory of this host that is promised to virtual machines, in all environments of a user.

A machine takes what it was given only little by little: what is available now is not free if those
that have just started are about to take it. So each environment writes down what its machines may
take, before the first of them starts, into one file of all runs. What is written of an environment
holds as long as that lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.providers.libvirt import host
from pytest_carthage.state import places, possession

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_carthage.errors import Problem

__all__ = ["Share", "admit", "lack", "release", "share_of", "shares"]

_FILE = "memory.json"
#: what QEMU takes beside a machine's own memory
_OVERHEAD_MIB = 100
#: environments that are named
_MOST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one environment was promised."""

    #: of the environment
    folder: Path
    layout: str
    #: name of each machine to its MiB
    machines: Mapping[str, int]
    #: MiB of it that its machines do not have yet
    outstanding_mib: int

    def __str__(self) -> str:
        count = len(self.machines)
        machines = "1 machine" if count == 1 else f"{count} machines"
        return f"{self.folder.name} ({machines}, {self.outstanding_mib} MiB not taken yet)"


def admit(folder: Path, layout: str, wanted: Mapping[str, int]) -> Problem | None:
    """Promise memory to machines of an environment that are about to start, or say what lacks.

    :param folder: of the environment; what its machines were promised before stands.
    :param wanted: name of each machine to its MiB.
    :raises OSError: what is promised cannot be read or written.
    """
    with _locked() as path:
        there = _read(path)
        machines = dict(there[folder][1]) if folder in there else {}
        new = {name: size for name, size in wanted.items() if name not in machines}
        if problem := lack(new, _measured(there)):
            return problem
        if new:
            there[folder] = layout, {**machines, **new}
            _write(path, there)
    return None


def release(folder: Path, name: str) -> None:
    """A machine is gone, and needs nothing any more.

    :raises OSError: what is promised cannot be read or written.
    """
    if not (places.state_root() / _FILE).exists():
        return
    with _locked() as path:
        there = _read(path)
        if name in there.get(folder, ("", {}))[1]:
            layout, machines = there[folder]
            there[folder] = layout, {each: machines[each] for each in machines if each != name}
            _write(path, there)


def shares() -> list[Share]:
    """What was promised to whom that lives."""
    return _measured(_read(places.state_root() / _FILE))


def share_of(folder: Path) -> Mapping[str, int]:
    """What machines of an environment were promised: name to MiB."""
    return _read(places.state_root() / _FILE).get(folder, ("", {}))[1]


def lack(
    wanted: Mapping[str, int], held: Iterable[Share], available_mib: int | None = None
) -> Problem | None:
    """What this host's memory lacks for machines that are about to start; None: nothing.

    :param wanted: name of each to its MiB.
    :param held: what others were promised.
    :param available_mib: by default what there is now.
    """
    if not wanted:
        return None
    needed = sum(wanted.values()) + len(wanted) * _OVERHEAD_MIB
    available = host.available_mib() if available_mib is None else available_mib
    others = [share for share in held if share.outstanding_mib]
    free = max(0, available - sum(share.outstanding_mib for share in others))
    if needed <= free:
        return None
    each = ", ".join(f"{name} {size} MiB" for name, size in wanted.items())
    what = f"{needed} MiB of memory are needed ({each}, and {_OVERHEAD_MIB} MiB beside each), and "
    remedy = "on=Vm(memory_mib=...) with less, or fewer machines at a time"
    if not others:
        return host.problem(f"{what}{available} MiB are available", remedy)
    others.sort(key=lambda share: -share.outstanding_mib)
    holders = "; ".join(map(str, others[:_MOST]))
    more = f"; and {len(others) - _MOST} more" if len(others) > _MOST else ""
    return host.problem(
        f"{what}{free} MiB are free: {available} MiB are available, of which the machines of other "
        f"environments are about to take the rest: {holders}{more}",
        f"{remedy} (as with -n), or when those have ended: pytest-carthage ls",
    )


@contextlib.contextmanager
def _locked() -> Iterator[Path]:
    """Have the file alone; gives its path."""
    folder = places.own_folder()
    fd = os.open(folder / f"{_FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield folder / _FILE
    finally:
        os.close(fd)


def _read(path: Path) -> dict[Path, tuple[str, Mapping[str, int]]]:
    """Folder of each environment that lives to its layout, and to what it was promised."""
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:  # of another version, or written by hand
        return {}
    return {
        Path(folder): (layout, machines)
        for folder, (layout, machines) in record.items()
        if _lives(Path(folder))
    }


def _lives(folder: Path) -> bool:
    """Whether an environment is there, and somebody has its run."""
    return folder.is_dir() and possession.is_alive(folder.parents[1])


def _write(path: Path, there: Mapping[Path, tuple[str, Mapping[str, int]]]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps({str(folder): value for folder, value in there.items()}))
    new.replace(path)


def _measured(there: Mapping[Path, tuple[str, Mapping[str, int]]]) -> list[Share]:
    resident = _resident_mib(there)
    return [
        Share(
            folder=folder,
            layout=layout,
            machines=machines,
            outstanding_mib=max(
                0,
                sum(machines.values()) + _OVERHEAD_MIB * len(machines) - resident[folder],
            ),
        )
        for folder, (layout, machines) in there.items()
        if machines
    ]


def _resident_mib(folders: Iterable[Path], proc: Path = Path("/proc")) -> dict[Path, int]:
    """What emulators that work with a file in each of these folders have of this host's memory."""
    pages = dict.fromkeys(folders, 0)
    if not pages:
        return pages
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = (process / "cmdline").read_bytes()
            if b"qemu" not in words.partition(b"\0")[0].rpartition(b"/")[2]:
                continue
            for folder in pages:
                if os.fsencode(f"{folder}/") in words:
                    pages[folder] += int((process / "statm").read_text().split()[1])
    return {folder: count * os.sysconf("SC_PAGE_SIZE") >> 20 for folder, count in pages.items()}
