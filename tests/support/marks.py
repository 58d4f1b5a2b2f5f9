"""What a host has that no machine may find: a process, sockets, memory, a key, and their like."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.state import places
from tests.support.trespass import Marks

__all__ = ["left"]

_libc = ctypes.CDLL(None, use_errno=True)
_MQ_OPEN, _MQ_UNLINK, _PIDFD_OPEN = (
    (240, 241, 434) if platform.machine() == "x86_64" else (180, 181, 434)
)
#: of a session that ends with it; anybody may see it, and read it
_KEY = """\
import ctypes, platform, sys
libc = ctypes.CDLL(None)
add, control = (248, 250) if platform.machine() == "x86_64" else (217, 219)
libc.syscall(control, 1, None)
key = libc.syscall(add, b"user", sys.argv[1].encode(), b"secret", ctypes.c_long(6), -3)
libc.syscall(control, 5, key, 0x3F3F3F3F)
print(key, flush=True)
sys.stdin.read()
"""
#: the same, of a machine: each Debian has Perl; says what its key is, or that it has none
_OTHERS = """\
use Socket;
socket my $s, AF_UNIX, SOCK_STREAM, 0;
bind $s, pack "Sa*", AF_UNIX, "\\0$ARGV[0]" or die;
listen $s, 1;
open my $f, ">", "/dev/shm/$ARGV[0]";
my ($add, $control) = map { 0 + $_ } @ARGV[1, 2];
syscall $control, 1, 0;
my ($kind, $secret) = ("user", "secret");
my $key = syscall $add, $kind, $ARGV[0], $secret, 6, -3;
syscall $control, 5, $key, 0x3f3f3f3f;
$| = 1;
open my $told, ">", "/tmp/$ARGV[0].new";
print $told $key > 0 ? $key : 0, "\\n";
close $told;
rename "/tmp/$ARGV[0].new", "/tmp/$ARGV[0]";
sleep 1000;
"""


@contextlib.contextmanager
def left(other: MachineHandle, *, taken: set[int]) -> Iterator[Marks]:
    """A block in which the host has them, and another machine, too.

    :param taken: process ids of machines, which that of the host's process is none of.
    """
    name = f"carthage-test-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(_process(name))
        while process.pid in taken:
            process = stack.enter_context(_process(name))
        assert process.stdout is not None
        key = int(process.stdout.readline())
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{name}")
        abstract.listen()
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        path = stack.enter_context(_socket_in_files(name))
        Path("/dev/shm", name).touch()
        stack.callback(Path("/dev/shm", name).unlink)
        _queue(name)
        stack.callback(_libc.syscall, _MQ_UNLINK, name.encode())
        ipc = stack.enter_context(_ipc())
        numbers = ("248", "250") if platform.machine() == "x86_64" else ("217", "219")
        other.run(
            [
                "sh",
                "-c",
                'setsid perl -e "$0" "$@" > /tmp/said 2>&1 &',
                _OTHERS,
                f"{name}-other",
                *numbers,
            ]
        )
        other.run(f"until test -e /tmp/{name}-other; do sleep 0.02; done", timeout_s=20)
        other.write_text(f"/root/{name}", "")
        (file,) = places.runs_root().glob(f"*/envs/*/roots/{other.name}/upper/root/{name}")
        disk = Path("/").stat().st_dev
        pidfd = _libc.syscall(_PIDFD_OPEN, process.pid, 0)
        stack.callback(os.close, pidfd)
        yield Marks(
            pid=process.pid,
            word=name,
            other_word=f"{name}-other",
            abstract=name,
            other_abstract=f"{name}-other",
            port=listener.getsockname()[1],
            ipc=ipc,
            shared=name,
            other_shared=f"{name}-other",
            path=path,
            file=str(file),
            group=_group(f"{name}-other"),
            disk=(os.major(disk), os.minor(disk)),
            key=key,
            other_key=int(other.read_text(f"/tmp/{name}-other")),
            pidfd=os.fstat(pidfd).st_ino,
        )


@contextlib.contextmanager
def _process(word: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _KEY, word],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


@contextlib.contextmanager
def _socket_in_files(name: str) -> Iterator[str]:
    """Path of a listening socket where a machine over the host's files could see it."""
    if os.geteuid() != 0:
        yield "/nowhere"
        return
    folder = Path("/var/lib", name)
    folder.mkdir()
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/socket")
            listener.listen()
            yield f"{folder}/socket"
    finally:
        shutil.rmtree(folder)


def _group(word: str) -> str:
    """The first part of the path of the control group of the process that has a word."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                rows = (path.parent / "cgroup").read_text().splitlines()
                return "/" + next(row for row in rows if row.startswith("0:")).split("/")[1]
    raise LookupError(word)


def _queue(name: str) -> None:
    fd = _libc.syscall(_MQ_OPEN, name.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    if fd >= 0:  # a kernel without is one that has nothing to hide
        os.close(fd)


@contextlib.contextmanager
def _ipc() -> Iterator[int]:
    """A key by which the host has memory, semaphores and messages."""
    key = int.from_bytes(os.urandom(3), "big") + 1
    create = 0o1666
    memory = _libc.shmget(key, 4096, create)
    semaphores = _libc.semget(key, 1, create)
    messages = _libc.msgget(key, create)
    try:
        yield key
    finally:
        _libc.shmctl(memory, 0, None)
        _libc.semctl(semaphores, 0, 0)
        _libc.msgctl(messages, 0, None)
