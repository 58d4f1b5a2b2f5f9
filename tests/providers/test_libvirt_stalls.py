"""A machine for whose writes there is no room stands, says so, and goes on: no machine starts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_carthage.channels.log import Log
from pytest_carthage.providers.libvirt import stalls
from pytest_carthage.providers.libvirt.lives import Life
from pytest_carthage.providers.libvirt.stalls import Stall

SUSPENDED, PAUSED, IO_ERROR = 3, 0, 2
LIBVIRT = SimpleNamespace(VIR_DOMAIN_PAUSED=3)


class Bench:
    """A machine that stands, on a host with so much room."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free_mib = 2
        self.state = [LIBVIRT.VIR_DOMAIN_PAUSED, 5]
        self.asked: list[str] = []
        self.notes: list[str] = []
        self.stall = Stall(folder, self.call, self.notes.append)
        monkeypatch.setattr(stalls, "_free_mib", lambda folder: self.free_mib)
        monkeypatch.setattr(stalls, "_LOOK_S", 0.01)

    async def call(self, function: Callable[[Any, Any], None]) -> None:
        domain = SimpleNamespace(
            state=lambda: self.state, resume=lambda: self.asked.append("resume")
        )
        function(LIBVIRT, domain)

    async def until(self, count: int) -> None:
        """Wait until so much was told."""
        async with asyncio.timeout(10):
            while len(self.notes) < count:  # noqa: ASYNC110  it is a list
                await asyncio.sleep(0.005)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


@pytest.mark.asyncio
async def test_machine_that_stands_for_want_of_room_goes_on_when_there_is_some(
    bench: Bench, tmp_path: Path
) -> None:
    bench.stall.begin()
    bench.stall.begin()
    await bench.until(1)
    assert re.fullmatch(
        rf"it stands since [0-9:]{{8}}: what it writes to its disk has no room in {tmp_path} of "
        r"this host, of which 2 MiB are free; it goes on when there is some",
        bench.stall.why,
    )
    assert bench.notes == [bench.stall.why]
    await asyncio.sleep(0.05)
    assert not bench.asked
    bench.free_mib = 100
    await bench.until(2)
    assert bench.asked == ["resume"]
    assert bench.notes[1] == "it goes on: there is room again"
    await asyncio.sleep(0)
    assert bench.stall.why == ""


@pytest.mark.asyncio
async def test_machine_that_somebody_has_frozen_meanwhile_stays_so(bench: Bench) -> None:
    bench.state = [LIBVIRT.VIR_DOMAIN_PAUSED, 1]
    bench.free_mib = 100
    bench.stall.begin()
    await bench.until(2)
    assert not bench.asked


@pytest.mark.asyncio
async def test_wait_for_room_ends_with_the_machine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(folder: Path) -> int:
        raise FileNotFoundError(folder)

    bench.stall.begin()
    await bench.until(1)
    monkeypatch.setattr(stalls, "_free_mib", gone)
    waiting = bench.stall._waiting
    assert waiting is not None
    await asyncio.wait_for(waiting, 10)
    assert bench.stall.why == ""


def test_machine_is_known_to_stand_by_the_event_of_its_disk(tmp_path: Path) -> None:
    stood: list[bool] = []
    life = Life(Log(tmp_path / "db.log"), stall=lambda: stood.append(True))
    life.hear(SUSPENDED, PAUSED)  # as by freeze()
    assert not stood
    life.hear(SUSPENDED, IO_ERROR)
    assert stood == [True]
