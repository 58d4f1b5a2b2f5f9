"""``view``: a viewer of a screen, commands that open one, and a port where that is asked for."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import provider as seam
from pytest_carthage.cli import main
from pytest_carthage.cli import view as command
from pytest_carthage.fabric.wire import frames
from pytest_carthage.provider import View
from tests.channels.conftest import settled
from tests.cli.alive import be_alive, listed


class Virtual:
    """A provider one of whose machines has a screen."""

    uri = "qemu+unix:///system?socket=/state/libvirt.sock"

    def view(self, folder: Path, machine: str) -> View | None:
        if machine == "bare":
            return None
        return View(socket=folder / f"{machine}.vnc", uri=self.uri, domain=f"shop-{machine}")


@pytest.fixture(autouse=True)
def alive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machines = {name: {"target": "virtual"} for name in ("db", "bare")}
    machines["web"] = {"target": "netns"}
    environment = listed("demo-shop", machines=machines, folder=tmp_path)
    be_alive(monkeypatch, [environment])
    providers: Any = {"virtual": Virtual, "netns": object}
    monkeypatch.setattr(seam, "load_providers", lambda: providers)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def test_viewer_is_opened_where_there_is_a_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "virt-viewer"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked; exit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":7")
    assert main(["view", "db"]) == 3
    assert (tmp_path / "asked").read_text().split() == [
        *("--attach", "--connect", Virtual.uri, "shop-db")
    ]


def test_screen_that_no_libvirt_has_is_opened_by_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vncviewer"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":7")
    assert main(["view", "db"]) == 0, "virt-viewer is not there"
    assert (tmp_path / "asked").read_text() == f"{tmp_path}/db.vnc\n"


@pytest.mark.parametrize("reason", ["no display", "no viewer", "--print"])
def test_commands_are_printed_where_none_can_be_opened(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reason: str,
) -> None:
    if reason != "no display":
        monkeypatch.setenv("DISPLAY", ":7")
    if reason == "no viewer":
        monkeypatch.setenv("PATH", "/nowhere")
    assert main(["view", "demo-shop/db", *(["--print"] if reason == "--print" else [])]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "# on this host, with a display:",
        f"virt-viewer --attach --connect '{Virtual.uri}' shop-db",
        "# or",
        f"vncviewer {tmp_path}/db.vnc",
        "# from another one, by any viewer of VNC:",
        f"ssh -N -L 5901:{tmp_path}/db.vnc {socket.gethostname()} &",
        "vncviewer 127.0.0.1:1",
    ]


def test_socket_that_ssh_does_not_take_is_served_at_a_port_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    far = tmp_path / ("x" * 100)
    monkeypatch.setattr(Virtual, "view", lambda self, folder, machine: View(socket=far / "vnc"))
    assert main(["view", "db"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "pytest-carthage view demo-shop/db --tcp 5901 &  # on this host",
        f"ssh -N -L 5901:127.0.0.1:5901 {socket.gethostname()} &",
        "vncviewer 127.0.0.1:1",
    ]


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ("bare", "target 'virtual' gives none to machines that are declared as this one"),
        ("web", "target 'netns' gives none to machines of its own"),
    ],
)
def test_machine_without_a_screen_says_so_with_what_there_is(
    machine: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", machine]) == 1
    assert capsys.readouterr().err == (
        f"pytest-carthage: machine {machine!r} of environment 'demo-shop' has no screen: {words}; "
        f"try: pytest-carthage console demo-shop/{machine}, or "
        f"pytest-carthage shell demo-shop/{machine}\n"
    )


@pytest.mark.parametrize("port", ["x", "-1", "65536"])
def test_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["view", "db", f"--tcp={port}"])
    assert f"{port!r} is no number of a port" in capsys.readouterr().err


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, int, socket.socket]]:
    """A screen that is served at a port, by a process: its line, the port, the screen."""
    with contextlib.closing(frames.listen(str(tmp_path / "vnc"))) as screen:
        screen.settimeout(10)
        code = (
            "import sys; from pathlib import Path; from pytest_carthage.cli import view\n"
            "from pytest_carthage.provider import View\n"
            "sys.exit(view._serve(View(socket=Path(sys.argv[1])), 0))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "vnc")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line, int(line.split()[1].rpartition(":")[2]), screen
        process.kill()
        process.communicate()


def test_screen_is_served_at_a_port_of_loopback_alone(
    served: tuple[str, int, socket.socket],
) -> None:
    line, port, screen = served
    assert line == f"vncviewer 127.0.0.1::{port}  # or vnc://127.0.0.1:{port}, until Ctrl-C\n"
    for _ in range(2):  # one after the other
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            far, _ = screen.accept()
            far.sendall(b"RFB 003.008\n")
            assert client.recv(100) == b"RFB 003.008\n"
            client.sendall(b"RFB 003.008\n")
            assert far.recv(100) == b"RFB 003.008\n"
        assert far.recv(1) == b""
        far.close()
    listening = Path("/proc/net/tcp").read_text().splitlines()
    rows = [row.split() for row in listening if f":{port:04X} " in row and " 0A " in row]
    assert {row[1].partition(":")[0] for row in rows} == {"0100007F"}


def test_large_pictures_pass_whole_whoever_is_slow(
    served: tuple[str, int, socket.socket],
) -> None:
    _, port, screen = served
    picture = bytes(range(256)) * 20_000
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        far, _ = screen.accept()
        sender = threading.Thread(target=far.sendall, args=(picture,), daemon=True)
        sender.start()
        data = b""
        while len(data) < len(picture):
            data += client.recv(1 << 16)
        sender.join(10)
        far.close()
        assert data == picture
        assert client.recv(1) == b""


def test_serving_ends_when_the_screen_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []
    create = socket.create_server

    def listening(address: Any) -> socket.socket:
        made = create(address)
        ports.append(made.getsockname()[1])
        return made

    monkeypatch.setattr(socket, "create_server", listening)
    view = View(socket=tmp_path / "gone")
    thread = threading.Thread(target=command._serve, args=(view, 0), daemon=True)
    thread.start()
    assert settled(lambda: len(ports), 1) == 1
    with socket.create_connection(("127.0.0.1", ports[0]), timeout=10) as client:
        assert client.recv(1) == b""
    thread.join(10)
    assert not thread.is_alive()
    assert "the screen is gone: No such file or directory" in capsys.readouterr().err
