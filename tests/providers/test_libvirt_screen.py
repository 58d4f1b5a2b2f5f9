"""What libvirt is asked of a screen and a keyboard: libvirt is the test's own here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pytest_carthage.provider import Console, Reads, Screen, Shows
from pytest_carthage.providers.libvirt import LibvirtProvider, screen
from pytest_carthage.providers.libvirt.binding import Refused
from pytest_carthage.providers.libvirt.machine import LibvirtMachine
from pytest_carthage.screens.keys import typed
from pytest_carthage.screens.picture import png

T = TypeVar("T")
PICTURE = png(2, 2, bytes(12))


class Stream:
    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def recv(self, most: int) -> bytes:
        if not self.domain.picture:
            self.domain.told.append("no more")
            return b""
        piece, self.domain.picture = self.domain.picture[:7], self.domain.picture[7:]
        return piece

    def finish(self) -> None:
        self.domain.told.append("finished")

    def abort(self) -> None:
        self.domain.told.append("aborted")


class Domain:
    """A virDomain, and the module libvirt."""

    VIR_KEYCODE_SET_LINUX = 0

    def __init__(self, picture: bytes = PICTURE) -> None:
        self.picture = picture
        self.told: list[Any] = []
        self.error: Exception | None = None

    def connect(self) -> Domain:
        return self

    def newStream(self, flags: int) -> Stream:  # noqa: N802  libvirt's
        return Stream(self)

    def screenshot(self, stream: Stream, number: int, flags: int) -> str:
        if self.error is not None:
            raise self.error
        return "image/png"

    def sendKey(self, kind: int, held_ms: int, keys: list[int], count: int, flags: int) -> None:  # noqa: N802
        assert (kind, count) == (self.VIR_KEYCODE_SET_LINUX, len(keys))
        self.told.append((time.monotonic(), held_ms, keys))

    async def call(self, function: Callable[[Any, Any], T]) -> T:
        return function(self, self)


def test_screenshot_is_what_libvirt_streams() -> None:
    domain = Domain()
    assert asyncio.run(screen.screenshot(domain.call)) == PICTURE
    assert domain.told == ["no more", "finished"]


def test_screenshot_of_an_older_qemu_becomes_a_png() -> None:
    ppm = b"P6\n2 2\n255\n" + bytes(12)
    assert asyncio.run(screen.screenshot(Domain(ppm).call)) == PICTURE


def test_screenshot_that_fails_leaves_no_stream() -> None:
    domain = Domain()
    domain.error = RuntimeError("no screen")
    with pytest.raises(RuntimeError, match="no screen"):
        asyncio.run(screen.screenshot(domain.call))
    assert domain.told == ["aborted"]


def test_picture_of_who_is_about_to_go_off_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "db.png"
    asyncio.run(screen.keep(Domain().call, path))
    assert path.read_bytes() == PICTURE


@pytest.mark.parametrize("error", [Refused("the domain is not running", 55), OSError("full")])
def test_picture_that_cannot_be_had_is_none(tmp_path: Path, error: Exception) -> None:
    domain = Domain()
    domain.error = error
    asyncio.run(screen.keep(domain.call, tmp_path / "db.png"))
    assert not list(tmp_path.iterdir())


def test_picture_that_takes_too_long_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(function: Callable[[Any, Any], bytes]) -> bytes:
        await asyncio.sleep(600)
        return b""

    monkeypatch.setattr(screen, "_KEEP_S", 0.01)
    asyncio.run(screen.keep(never, tmp_path / "db.png"))
    assert not list(tmp_path.iterdir())


def test_keys_are_pressed_one_chord_after_the_other_with_time_to_take_them() -> None:
    domain = Domain()
    asyncio.run(screen.press(domain.call, typed("aB")))
    (first, held_ms, a), (second, _, b) = domain.told
    assert (a, b) == ([30], [42, 48])
    assert second - first > held_ms / 1000


def test_machines_of_libvirt_have_consoles_and_screens() -> None:
    for promise in (Console, Screen):
        assert issubclass(LibvirtMachine, promise)
    assert not issubclass(LibvirtMachine, Reads)
    assert isinstance(LibvirtProvider(), Shows)


def test_view_of_a_machine_is_by_the_libvirtd_of_its_environment(tmp_path: Path) -> None:
    provider = LibvirtProvider()
    assert provider.view(tmp_path, "db") is None
    socket = tmp_path / "vm" / "db" / "vnc.sock"
    socket.parent.mkdir(parents=True)
    socket.touch()
    view = provider.view(tmp_path, "db")
    assert view is not None
    assert (view.socket, view.domain) == (socket, "db")
    assert view.uri == f"qemu+unix:///system?socket={tmp_path}/libvirt/run/libvirt-sock"
