"""What a machine with limits is told of memory and processors: the texts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_carthage.fabric import fuse, limits, shares
from pytest_carthage.fabric.container import groups
from pytest_carthage.fabric.spec import LimitsSpec, elsewhere
from pytest_carthage.fabric.wire.server import Server

STAT = """\
cpu  30 3 0
cpu0 10 1 0
cpu1 20 2 0
intr 5
btime 1000
"""


@pytest.mark.parametrize(
    ("text", "expected"), [("0\n", {0}), ("0-2,5", {0, 1, 2, 5}), ("3,7-8\n", {3, 7, 8})]
)
def test_list_of_processors_is_read(text: str, expected: set[int]) -> None:
    assert shares.listed(text) == expected


@pytest.mark.parametrize(("cpus", "expected"), [(0.5, 1), (1, 1), (1.5, 2), (2, 2), (4, None)])
def test_machine_sees_as_many_processors_as_it_may_use_a_part_of(
    monkeypatch: pytest.MonkeyPatch, cpus: float, expected: int | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    given: LimitsSpec = {"memory_mib": None, "cpus": cpus, "pids": None}
    assert shares.processors(given) == expected


def test_stat_is_of_the_first_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "_read", lambda path: STAT)
    text = shares.activity(1, None)
    assert text == "cpu  10 1 0\ncpu0 10 1 0\nintr 5\nbtime 1000\n"


def test_stat_has_the_boot_of_who_has_an_uptime_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shares, "_read", lambda path: STAT)
    assert "btime 2000\n" in shares.activity(2, 2000)
    assert shares.activity(2, 2000).startswith("cpu  30 3 0\n")


def test_cpuinfo_is_of_the_first_processors() -> None:
    host = Path("/proc/cpuinfo").read_text()
    assert shares.cpuinfo(1).count("processor\t:") == 1
    assert shares.cpuinfo(len(os.sched_getaffinity(0)) + 1000) == host


@pytest.mark.parametrize("version", [1, 2])
def test_memory_is_what_a_control_group_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: int
) -> None:
    monkeypatch.setattr(limits, "_ROOT", str(tmp_path))
    group = tmp_path / ("memory/shop/db" if version == 1 else "shop/db")
    group.mkdir(parents=True)
    total = "total_" if version == 1 else ""
    counters = {
        f"{total}cache" if version == 1 else "file": 30 << 20,
        f"{total}active_file": 10 << 20,
        f"{total}inactive_file": 15 << 20,
        f"{total}rss" if version == 1 else "anon": 20 << 20,
    }
    group.joinpath("memory.stat").write_text(
        "".join(f"{name} {value}\n" for name, value in counters.items())
    )
    usage = "memory.usage_in_bytes" if version == 1 else "memory.current"
    group.joinpath(usage).write_text(f"{50 << 20}\n")
    monkeypatch.setattr(groups, "is_unified", lambda: version == 2)
    monkeypatch.setattr(groups, "tops", lambda: {"": str(tmp_path)})
    rows = dict(line.split(":") for line in shares.meminfo("/shop/db", 100).splitlines())
    mib = {name: int(value.split()[0]) / 1024 for name, value in rows.items()}
    assert (mib["MemTotal"], mib["MemFree"], mib["MemAvailable"]) == (100, 50, 75)
    assert (mib["Cached"], mib["AnonPages"], mib["SwapTotal"]) == (30, 20, 0)


def test_machine_sees_what_the_host_has_where_nobody_makes_file_systems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fuse, "DEVICE", str(tmp_path / "fuse"))
    few: LimitsSpec = {"memory_mib": 100, "cpus": None, "pids": None}
    assert shares.begin({**elsewhere("db"), "limits": few}, Server()) is None
