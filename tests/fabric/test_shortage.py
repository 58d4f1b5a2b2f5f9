"""What counts processes that were killed for want of memory, in both versions of cgroups(7)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_carthage.fabric import shortage


def group(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def test_version_2_counts_what_is_below(tmp_path: Path) -> None:
    group(tmp_path, "memory.events", "low 0\nhigh 3\nmax 9\noom 4\noom_kill 2\noom_group_kill 0\n")
    group(tmp_path / "below", "memory.events", "oom_kill 2\n")
    assert shortage.kills(str(tmp_path)) == 2


def test_version_1_does_not(tmp_path: Path) -> None:
    text = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
    group(tmp_path, "memory.oom_control", text.format(1))
    group(tmp_path / "below", "memory.oom_control", text.format(3))
    assert shortage.kills(str(tmp_path)) == 4


def test_group_that_is_gone_or_does_not_count_has_none(tmp_path: Path) -> None:
    assert shortage.kills(str(tmp_path / "none")) == 0
    group(tmp_path, "memory.oom_control", "under_oom 0\n")
    assert shortage.kills(str(tmp_path)) == 0


def test_group_of_a_process_is_found() -> None:
    assert shortage.folder_of(os.getpid()).startswith("/sys/fs/cgroup")
    with pytest.raises(OSError):
        shortage.folder_of(2**22 + 1)
