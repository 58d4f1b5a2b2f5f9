"""The console, the screen and the keyboard of a virtual machine, which boots once for all tests."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Vm, screen
from pytest_carthage.channels.consoles import attach
from pytest_carthage.errors import CarthageError
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.screens import picture, recognition
from tests.channels.conftest import settled
from tests.providers.conftest import DEBIAN
from tests.support.layouts import building

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

BOOT_S = 240


class Rack(Layout):
    db = Machine(DEBIAN.with_packages("python3"), on=Vm(graphics=True), ready_timeout_s=BOOT_S)


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    with contextlib.closing(Portal()) as portal, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("state")))
        with building(portal, {"libvirt": LibvirtProvider}) as build:
            live = build(Rack)
            live.db.run("echo root:secret | chpasswd")
            yield live


def read(console: socket.socket, text: bytes) -> bytes:
    """What a console prints, until that is in it."""
    data = b""
    while text not in data:
        piece = console.recv(1 << 16)
        assert piece, data
        data += piece
    return data


def test_console_is_recorded_as_text(rack: Rack) -> None:
    """From the first line of the kernel, or of a clone from where that was put to sleep."""
    text = rack.db.logs()
    assert "Linux version" in text or "systemd" in text
    assert "\x1b" not in text
    assert "\r" not in text


def test_login_is_typed_at_the_serial_console(rack: Rack) -> None:
    # docs: console
    with rack.db.console() as console:
        console.settimeout(BOOT_S)
        console.sendall(b"\r")
        read(console, b"login: ")
        console.sendall(b"root\r")
        read(console, b"Password: ")
        # docs: end
        console.sendall(b"secret\r")
        read(console, b"# ")
        console.sendall(b"tty > /root/serial; exit\r")
        read(console, b"login: ")
    assert rack.db.read_text("/root/serial").startswith("/dev/")


def test_two_who_are_attached_see_the_same_and_leave_without_hurting(rack: Rack) -> None:
    folder = rack.aio.folder
    with attach(folder, "db", lines=0).socket as one, attach(folder, "db", lines=0).socket as two:
        rack.db.run("echo seen by all > /dev/console")
        for console in (one, two):
            console.settimeout(BOOT_S)
            read(console, b"seen by all\r\n")
    rack.db.run("echo and by nobody > /dev/console")
    assert settled(lambda: "and by nobody\n" in rack.db.logs(), True, within_s=30)


def test_screen_is_shown_and_its_text_is_recognised(rack: Rack, tmp_path: Path) -> None:
    if (problem := recognition.lacks()) is not None:
        pytest.skip(str(problem))
    rack.db.wait_for(screen("db login:"), timeout_s=BOOT_S)
    data = rack.db.screenshot(tmp_path / "db.png")
    assert picture.is_png(data)
    assert (tmp_path / "db.png").read_bytes() == data
    gray = picture.Gray.of(data)
    assert gray.is_dark
    assert gray.width >= 640


def test_keys_are_typed_at_the_screen(rack: Rack) -> None:
    if (problem := recognition.lacks()) is not None:
        pytest.skip(str(problem))
    # docs: screen
    rack.db.send_keys("root\n")
    rack.db.wait_for(screen("Password:"), timeout_s=BOOT_S)
    rack.db.send_keys("secret\n")
    rack.db.wait_for(screen("root@db:"), timeout_s=BOOT_S)
    # docs: end
    rack.db.send_keys("echo 'Ab_1 ~{|}' >/root/typed; tty >/root/screen\n")
    assert settled(lambda: rack.db.run("cat /root/screen", check=False).stdout, "/dev/tty1\n", 60)
    assert rack.db.read_text("/root/typed") == "Ab_1 ~{|}\n"
    rack.db.send_keys(keys="ctrl-d")
    rack.db.wait_for(screen("db login:"), timeout_s=BOOT_S)


def test_screen_speaks_vnc_at_a_socket_and_at_no_port(rack: Rack) -> None:
    view = LibvirtProvider().view(rack.aio.folder, "db")
    assert view is not None
    with socket.socket(socket.AF_UNIX) as vnc:
        vnc.settimeout(30)
        vnc.connect(str(view.socket))
        assert vnc.recv(12) == b"RFB 003.008\n"
        vnc.sendall(b"RFB 003.008\n")
        assert vnc.recv(2) == b"\x01\x01", "one kind of security: none, behind a socket of ours"
    assert view.socket.stat().st_mode & 0o077 == 0 or view.socket.parent.stat().st_mode & 0o077 == 0


def test_log_of_a_panic_has_its_last_lines(rack: Rack) -> None:
    with contextlib.suppress(CarthageError):
        rack.db.run("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger", timeout_s=60)
    assert settled(lambda: "Kernel panic - not syncing: sysrq" in rack.db.logs(), True, within_s=60)
