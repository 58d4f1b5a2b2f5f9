"""What a run leaves on this host: nothing, within ten seconds."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from pytest_carthage.store.root import pending

_LIMIT_S = 10.0


def of_this_test(state: Path) -> dict[int, str]:
    """Processes that were started with this test's state folder, machines included."""
    marker = f"CARTHAGE_STATE={state}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if marker in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue
    return found


def world(state: Path) -> dict[str, object]:
    """What this host holds of the run, and what must never change."""
    return {
        "processes": of_this_test(state),
        "sleepers": [
            pid.name
            for pid in Path("/proc").iterdir()
            if pid.name.isdecimal() and _is_sleeper(pid, state)
        ],
        "folders": sorted(p.name for p in (state / "runs").glob("[!.]*")),
        "mounts": [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if str(state) in line
        ],
        "loop devices": list(_loops(state.parent)),
        # what a killed command has half written of a person's files
        "half_written": [
            str(path) for path in pending().dead() if path.is_relative_to(state.parent)
        ],
    }


def sleep_s(state: Path) -> str:
    """How long the machines of this test sleep: nobody else's sleep as long."""
    return f"600.{zlib.crc32(str(state).encode())}"


def _is_sleeper(pid: Path, state: Path) -> bool:
    try:
        return (pid / "cmdline").read_bytes() == f"sleep\0{sleep_s(state)}\0".encode()
    except OSError:
        return False


def _loops(folder: Path) -> Iterator[str]:
    """Loop devices over files of a folder; a machine's root can make none, see trespass.py."""
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            file = path.read_text().strip()
        except OSError:
            continue  # it was given back meanwhile
        if file.startswith(f"{folder}/"):
            yield f"{path.parents[1].name}: {file}"


def _links() -> list[str]:
    return [path.name for path in Path("/sys/class/net").iterdir()]


NOTHING: dict[str, object] = {
    "processes": {},
    "sleepers": [],
    "folders": [],
    "mounts": [],
    "loop devices": [],
    "half_written": [],
}


def assert_nothing_left(state: Path) -> None:
    deadline = time.monotonic() + _LIMIT_S
    links = set(_links())
    while (seen := world(state)) != NOTHING:
        assert time.monotonic() < deadline, f"left after {_LIMIT_S:g} s: {seen}"
        time.sleep(0.05)
    # those of others come and go
    while new := set(_links()) - links:
        assert time.monotonic() < deadline, f"new after {_LIMIT_S:g} s: {new}"
        time.sleep(0.05)
