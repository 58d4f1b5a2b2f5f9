"""Screens, keyboards and consoles of machines in memory, as any other target's."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from pytest_carthage import (
    Layout,
    LayoutError,
    Machine,
    MachineHandle,
    TimeLimitError,
    UnsupportedError,
    screen,
    testing,
)
from pytest_carthage.errors import FabricError, HostError
from pytest_carthage.live.machines import screens
from pytest_carthage.screens import picture, recognition
from pytest_carthage.testing.provider import FakeMeans


class Nobody:
    """Of a machine that does not know the text on its screen."""


class Shop(Layout):
    target = "virtual"
    db = Machine()
    web = Machine(on="netns")


def test_picture_of_a_screen_is_a_png_and_is_written_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    with testing.live(Shop) as shop:
        data = shop.db.screenshot(tmp_path / "db.png")
    assert picture.is_png(data)
    assert (tmp_path / "db.png").read_bytes() == data


def test_keys_are_typed_text_first() -> None:
    with testing.live(Shop) as shop:
        shop.db.send_keys("Hi\n", keys="ctrl-alt-f2 down")
        assert testing.fakes(shop)["db"].keys == ["shift-h", "i", "enter", "ctrl-alt-f2", "down"]
        shop.db.send_keys("z", keymap="de")
        assert testing.fakes(shop)["db"].keys[-1] == "y"


def test_keys_that_there_are_not_are_refused_with_the_machine_and_nothing_is_typed() -> None:
    with testing.live(Shop) as shop:
        who = r"machine 'db' of layout 'Shop': send_keys\(\): "
        with pytest.raises(ValueError, match=who + "no key types 'ß' with keymap 'us'"):
            shop.db.send_keys("Straße")
        with pytest.raises(ValueError, match=who + "key 'entr' is unknown"):
            shop.db.send_keys("root", keys="entr")
        assert testing.fakes(shop)["db"].keys == []


def test_screen_is_waited_for() -> None:
    with testing.live(Shop) as shop:
        testing.fakes(shop)["db"].screen = "Debian GNU/Linux 12 db tty1\n\ndb l0gin : _"
        shop.db.wait_for(screen("db login:"))
        assert shop.db.screen_text().startswith("Debian")


def login(db: MachineHandle) -> None:
    """What a tool of a user's does with a machine."""
    db.wait_for(screen("login:"))
    db.send_keys("root\n")


def test_tool_that_works_on_screens_is_tested_in_memory() -> None:
    # docs: fakes
    with testing.live(Shop) as shop:
        db = testing.fakes(shop)["db"]
        db.screen = "db login: _"
        login(shop.db)
        assert db.keys == ["r", "o", "o", "t", "enter"]
    # docs: end


def test_screen_that_never_shows_it_is_told_with_its_last_lines() -> None:
    with testing.live(Shop) as shop:
        testing.fakes(shop)["db"].screen = "\n".join(["GRUB", *"abcd", "grub rescue>"])
        end = r"after 0.1 s \(last: the screen ends with 'a | b | c | d | grub rescue>'\)"
        with pytest.raises(TimeLimitError, match="no screen login: " + end.replace("|", r"\|")):
            shop.db.wait_for(screen("login:"), timeout_s=0.1)
        testing.fakes(shop)["db"].screen = ""
        with pytest.raises(TimeLimitError, match="last: no text on the screen"):
            shop.db.wait_for(screen("login:"), timeout_s=0.1)


def test_screen_of_a_machine_that_is_off_is_dark() -> None:
    with testing.live(Shop) as shop:
        shop.db.stop()
        with pytest.raises(FabricError, match="it is stopped, and its screen is dark; try: start"):
            shop.db.screenshot()
        with pytest.raises(TimeLimitError, match="it is stopped"):
            shop.db.wait_for(screen("login:"))


def test_waiting_for_a_screen_without_tesseract_is_refused_at_once_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(screens, "Reads", Nobody)
    monkeypatch.setenv("PATH", "/nowhere")
    with testing.live(Shop) as shop:
        begin = time.monotonic()
        for ask in (lambda: shop.db.wait_for(screen("x")), shop.db.screen_text):
            with pytest.raises(HostError, match=r"tesseract, and .* none; try: apt install tess"):
                ask()
        assert time.monotonic() - begin < 20


def test_text_of_a_screen_that_has_not_changed_is_recognised_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []

    async def recognise(data: bytes) -> str:
        asked.append(data)
        return "login:"

    monkeypatch.setattr(screens, "Reads", Nobody)
    monkeypatch.setattr(screens, "recognise", recognise)
    monkeypatch.setattr(recognition, "_PROGRAM", "sh")
    with testing.live(Shop) as shop:
        shop.db.wait_for(screen("login:"))
        shop.db.wait_for(screen("login:"))
    assert len(asked) == 1


def test_target_without_screens_and_consoles_refuses_by_name() -> None:
    with testing.live(Shop) as shop:
        for ask, words in (
            (shop.web.screenshot, r"show screens of machines.*web.screenshot\(\) asks for that"),
            (lambda: shop.web.send_keys("x"), r"or type at them; web.send_keys\(\)"),
            (lambda: shop.web.wait_for(screen("x")), r"web.wait_for\(screen\('x'\)\)"),
            (shop.web.console, r"attach to consoles of machines; web.console\(\)"),
        ):
            with pytest.raises(UnsupportedError, match="target 'netns' cannot .*" + words):
                ask()
        assert not shop.web.can("screen")
        assert shop.db.can("screen")


def test_machine_that_is_declared_without_a_screen_says_how_to_have_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeMeans, "lacks", {"screen": "on=Vm(graphics=True)"}, raising=False)
    with testing.live(Shop) as shop:
        assert not shop.db.can("screen")
        with pytest.raises(
            UnsupportedError,
            match=r"target 'virtual' cannot .* that are declared as this one; db.screenshot\(\) "
            r"asks for that; try: on=Vm\(graphics=True\)",
        ):
            shop.db.screenshot()


def test_declared_condition_on_a_screen_is_refused_where_there_is_none() -> None:
    class Wrong(Layout):
        web = Machine(on="netns", wait_for=[screen("login:")])

    with (
        pytest.raises(LayoutError, match=r"cannot show screens.*'login:' is waited for"),
        testing.live(Wrong),
    ):
        pass


def test_console_is_a_socket_at_whose_far_end_a_service_answers() -> None:
    def login(far: socket.socket) -> None:
        far.sendall(b"db login: ")
        far.sendall(b"hello " + far.recv(100))

    with testing.live(Shop) as shop:
        testing.fakes(shop)["db"].serve_console(login)
        assert testing.fakes(shop)["db"].ports == []
        with shop.db.console() as console:
            console.settimeout(10)
            assert console.recv(100) == b"db login: "
            console.sendall(b"root\r")
            assert console.recv(100) == b"hello root\r"
