"""What of ``/run`` a program in a station finds, on a host whose ``/run`` is made for the test."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_carthage.work.ansible.station import Station

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a /run of its own: needs root"),
]

#: makes a /run, in a mount namespace of its own, and becomes what follows
STAGE = """
import os, socket, sys
sockets = []
def listen(path):
    sockets.append(socket.socket(socket.AF_UNIX))
    sockets[-1].bind(path)
    sockets[-1].listen()
os.chdir("/run")
for folder in ("plain", "bus", "deep/inner", "keys"):
    os.makedirs(folder)
for file in ("file", "plain/file", "bus/file", "deep/file", "user/file"):
    open(file, "w").write("text")
for path in ("top.sock", "bus/sock", "deep/inner/sock", "keys/agent", "keys/other", "user/sock"):
    listen(path)
os.mkfifo("bus/fifo")
os.symlink("bus", "link")
os.symlink("/run/bus/sock", "bus/link")
os.chown("bus", 33, 34)
os.chmod("bus", 0o2750)
os.spawnvp(os.P_WAIT, sys.argv[1], sys.argv[1:])
"""


def seen(station: Station, command: str) -> list[str]:
    argv = [*station.command({}), "/bin/sh", "-c", command]
    mounts = "mount -t tmpfs tmpfs /run && mkdir /run/user && mount -t tmpfs tmpfs /run/user"
    stage = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mounts} && exec "$@"']
    # it runs until its standard input ends
    with subprocess.Popen(
        [*stage, "sh", sys.executable, "-c", STAGE, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        assert process.wait(10) == 0
    return lines


def test_run_is_as_it_was_but_for_sockets() -> None:
    # mount(8) keeps notes there
    command = "cd /run; find . -path ./mount -prune -o -printf '%y %P %l\\n'"
    found = seen(Station(sockets=("/run/keys/agent",)), command)
    assert sorted(line.strip() for line in found) == [
        "d",
        "d bus",
        "d deep",
        "d deep/inner",
        "d keys",
        "d plain",
        "d user",
        "f bus/file",
        "f deep/file",
        "f file",
        "f plain/file",
        "f user/file",
        "l bus/link /run/bus/sock",
        "l link bus",
        "p bus/fifo",
        "s keys/agent",
    ]


def test_folder_that_was_made_anew_has_its_owner_and_mode() -> None:
    assert seen(Station(), "stat -c '%u %g %a' /run/bus; cat /run/bus/file") == [
        "33 34 2750",
        "text",
    ]


def test_what_a_program_makes_in_run_is_its_own() -> None:
    lines = seen(Station(), "echo changed > /run/plain/file; touch /run/new; ls /run/new")
    assert lines == ["/run/new"]
