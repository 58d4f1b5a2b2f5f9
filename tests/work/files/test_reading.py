"""Files that are read as a whole: those that end."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, testing
from pytest_carthage.work.files.reading import read_whole
from tests.live.conftest import Build
from tests.live.conftest import build as build
from tests.live.conftest import portal as portal
from tests.live.conftest import recorder as recorder
from tests.live.conftest import state as state

WHO = "machine 'web'"


def read(path: Path | str, most_bytes: int | None = 100) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return read_whole(fd, str(path), who=WHO, most_bytes=most_bytes)
    finally:
        os.close(fd)


def test_file_is_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"x" * 100):
        path.write_bytes(content)
        assert read(path) == content
    path.write_bytes(b"x" * 3_000_000)
    assert len(read(path, None)) == 3_000_000


def test_file_of_the_kernel_is_read_to_its_end() -> None:
    assert read("/proc/self/status", 1 << 20).startswith(b"Name:")
    with pytest.raises(OSError, match="it has 0 MiB or more, and 0 MiB may be read"):
        read("/proc/self/status", 10)


def test_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    with pytest.raises(
        OSError,
        match=re.escape("it has 300 MiB or more, and 64 MiB may be read into memory; try: get(), "),
    ):
        read(path, 64 << 20)


def test_file_that_grows_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    plain = os.read

    def grow(fd: int, size: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"more")
        return plain(fd, min(size, 3))

    monkeypatch.setattr(os, "read", grow)
    assert read(path) == b"x" * 10


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    os.mkfifo(tmp_path / "pipe")
    return {"a folder": tmp_path, "a device": Path("/dev/zero"), "a pipe": tmp_path / "pipe"}


@pytest.mark.parametrize("kind", ["a folder", "a device", "a pipe"])
def test_what_is_no_file_is_refused_by_name(odd: dict[str, Path], kind: str) -> None:
    with pytest.raises(OSError, match=f"{WHO}: this is {kind}, and no file to be read as a whole"):
        read(odd[kind])


def test_stream_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_now(fd: int, size: int) -> bytes:  # as /proc/kmsg
        raise BlockingIOError

    monkeypatch.setattr(os, "read", nothing_now)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="it has nothing to be read now, and no end; try: run"):
        read(tmp_path / "file")


class Shop(Layout):
    web = Machine()


def test_limit_of_a_text_is_the_callers() -> None:
    with testing.live(Shop) as shop:
        shop.web.write_text("/big", "x" * (2 << 20))
        with pytest.raises(OSError, match=r"machine 'web' of layout 'Shop': it has 2 MiB or more"):
            shop.web.read_text("/big", most_mib=1)
        assert len(shop.web.read_text("/big", most_mib=None)) == 2 << 20


@pytest.mark.real
def test_what_never_ends_is_refused_in_a_machine(build: Build) -> None:
    web = build(Shop).web
    # docs: endless
    with pytest.raises(OSError, match="this is a device, and no file to be read as a whole"):
        web.read_text("/dev/zero")
    # docs: end
    web.run(["mkfifo", "/tmp/pipe"])
    with pytest.raises(OSError, match="this is a pipe"):
        web.read_text("/tmp/pipe")
    web.run("truncate -s 1G /tmp/huge")
    with pytest.raises(OSError, match="it has 1024 MiB or more, and 64 MiB may be read"):
        web.read_text("/tmp/huge")
    assert web.read_text("/proc/self/comm")
