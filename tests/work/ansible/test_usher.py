"""A program led into a station without a layout: the host's files, and no way out."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.fabric.host import privilege
from pytest_carthage.work.ansible.station import SEALED, Station
from tests.support.descendants import TREE, new_mark, wait_for
from tests.support.unprivileged import REPOSITORY, as_user

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not privilege.is_privileged() and bool(privilege.user_namespace_problems()),
        reason="this host allows no namespaces",
    ),
]


def inside(script: str, station: Station = SEALED) -> str:
    """What a shell prints in a station."""
    argv = [*station.command(os.environ), "/bin/sh", "-c", script]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        assert process.wait(10) == 0, printed
    return printed


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Path]:
    """A socket at which a service of the host answers."""
    path = tmp_path / "service.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path


def connect(path: Path) -> str:
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r}); print('open')"
    return f'{sys.executable} -c "{code}" 2>&1 | tail -n1'


def test_station_has_its_loopback_alone() -> None:
    assert inside("ls /sys/class/net; tail -n +3 /proc/net/dev | cut -d: -f1").split() == ["lo"] * 2


def test_station_has_the_files_and_the_user_of_the_host(tmp_path: Path) -> None:
    inside(f"id -u > {tmp_path}/made; id -g >> {tmp_path}/made")
    made = tmp_path / "made"
    assert made.read_text().split() == [str(os.getuid()), str(os.getgid())]
    assert (made.stat().st_uid, made.stat().st_gid) == (os.getuid(), os.getgid())


def test_files_of_root_are_roots_for_root_and_else_nobodys() -> None:
    owner = inside("stat -c %U /etc/passwd").strip()
    assert owner == ("root" if os.geteuid() == 0 else "nobody")


@pytest.mark.skipif(
    shutil.which("ssh") is None, reason="no ssh; try: apt-get install openssh-client"
)
def test_ssh_accepts_what_the_hosts_configuration_includes() -> None:
    assert "Bad owner" not in inside("ssh -G nowhere 2>&1; ls -l /etc/ssh/ssh_config.d; true")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts something: needs root")
def test_mount_from_inside_is_not_the_hosts() -> None:
    assert "carthage-mark /mnt" in inside("mount -t tmpfs carthage-mark /mnt; cat /proc/mounts")
    assert "carthage-mark /mnt" not in Path("/proc/mounts").read_text()


def test_station_sees_its_own_processes_alone() -> None:
    assert str(os.getpid()) not in inside("ls /proc").split()


def test_socket_of_a_service_refuses(listener: Path) -> None:
    assert "Connection refused" in inside(connect(listener))


def test_socket_that_is_to_stay_answers(listener: Path) -> None:
    assert inside(connect(listener), Station(sockets=(str(listener.parent),))) == "open\n"


def test_socket_of_the_users_keys_answers(listener: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(listener))
    assert inside(connect(listener)) == "open\n"


def test_file_is_seen_in_place_of_the_hosts(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.1 elsewhere\n")
    station = Station(files={str(tmp_path / "hosts"): "/etc/hosts"})
    assert inside("cat /etc/hosts", station) == "192.0.2.1 elsewhere\n"
    assert "elsewhere" not in Path("/etc/hosts").read_text()


def test_name_of_the_host_is_not_changed_from_inside() -> None:
    before = socket.gethostname()
    inside("hostname changed || true")
    assert socket.gethostname() == before


def test_namespace_that_is_none_is_told() -> None:
    with Path(os.devnull).open() as nothing:
        station = Station(network=nothing.fileno(), processes=nothing.fileno())
        done = subprocess.run(
            [*station.command(os.environ), "/bin/true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=station.descriptors,
        )
    assert done.returncode == 126
    assert done.stderr.startswith("ERROR! the play cannot enter the layout's networks: ")


@pytest.mark.parametrize("way", ["close", "signal", "kill"])
def test_end_of_the_usher_ends_all(way: str) -> None:
    mark = new_mark()
    argv = [*SEALED.command(os.environ), "/bin/sh", "-c", TREE.format(mark=mark)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as usher:
        assert usher.stdin is not None
        wait_for(3, mark)
        if way == "close":
            usher.stdin.close()
        else:
            usher.send_signal(signal.SIGTERM if way == "signal" else signal.SIGKILL)
        wait_for(0, mark)
        assert usher.wait(5) != 0


def test_status_is_that_of_the_program() -> None:
    for script, status in (("exit 7", 7), ("kill -HUP $$", 128 + 1)):
        argv = [*SEALED.command(os.environ), "/bin/sh", "-c", script]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as usher:
            timer = threading.Timer(20, usher.kill)
            timer.start()
            assert usher.wait() == status
            timer.cancel()


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.geteuid() != 0, reason="the others are run as they are")
def test_ordinary_user_has_all_that() -> None:
    if problems := privilege.user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    live = REPOSITORY / "tests/live/openings/test_control.py"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, str(live)]
    # a host whose ssh includes a file of root
    file = "/etc/ssh/ssh_config.d/included.conf"
    mount = f"mount -t tmpfs tmpfs /etc/ssh/ssh_config.d && echo 'ServerAliveInterval 86' > {file}"
    stage = ["unshare", "--mount", "sh", "-c", f'{{ {mount}; }} 2>/dev/null; exec "$@"', "sh"]
    # pytest's own temporary folders are closed to others
    with tempfile.TemporaryDirectory(prefix="unprivileged-") as home:
        done = subprocess.run(
            [*stage, *as_user(argv, home=Path(home))],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d\d passed, 3 skipped", done.stdout), done.stdout
