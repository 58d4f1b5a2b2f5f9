"""Full disks: recognised by errors and by what programs say, told with a way out."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from pytest_carthage.work import space


@pytest.mark.parametrize(
    "cause",
    [
        OSError(errno.ENOSPC, "whatever"),
        OSError(errno.EDQUOT, "whatever"),
        "cp: cannot create 'x': No space left on device",
        "E: You don't have enough free space in /var/cache/apt/archives/.",
        "dpkg: Disk quota exceeded",
    ],
)
def test_full_disk_is_recognised(cause: object, tmp_path: Path) -> None:
    assert space.is_full(cause)
    assert space.advice(cause, tmp_path) == space.remedy(tmp_path)


@pytest.mark.parametrize("cause", [OSError(errno.EACCES, "no"), "cp: Permission denied", ""])
def test_other_causes_are_none(cause: object, tmp_path: Path) -> None:
    assert not space.is_full(cause)
    assert space.advice(cause, tmp_path) == ""


def test_free_space_is_told_of_each_place_once_also_where_nothing_is_yet(tmp_path: Path) -> None:
    text = space.free_space(tmp_path, tmp_path / "not/yet", tmp_path)
    place = re.escape(str(tmp_path))
    assert re.fullmatch(rf"{place} has \d+ MiB free, {place}/not/yet has \d+ MiB free", text)
    assert space.free_space() == "a disk is full"


def test_remedy_says_what_to_do(tmp_path: Path) -> None:
    text = space.remedy(tmp_path)
    assert "; try: free some (" in text
    assert "pytest-carthage images gc" in text
    assert "CARTHAGE_IMAGES" in text


def test_full_disk_of_an_environment_is_told_with_what_to_do(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert re.fullmatch(
        rf"; {tmp_path} has \d+ MiB free; try: free some, or set CARTHAGE_STATE to a folder "
        "elsewhere",
        space.of_state(full, tmp_path),
    )
    assert space.of_state(ValueError("no such device"), tmp_path) == ""
    assert space.of_state(f"{full}; /srv has 0 MiB free", tmp_path) == ""
