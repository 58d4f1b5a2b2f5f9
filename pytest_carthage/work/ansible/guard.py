"""Runs one program and all that it starts, and ends them when whoever asked is gone.

``python -I -S ansible_guard.py PROGRAM ARGUMENT...`` with a pipe as standard input: when the
pipe's other end closes (on purpose, or since its owner was killed), every descendant of the
program is killed, in whatever session or process group it is: Ansible's workers make sessions
of their own. Exits with the program's status, or 128 and the signal's number.

Standard library only: it must start in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

# prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: how long programs have to end by themselves before they are killed
_GRACE_S = 1.0


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _children() -> dict[int, list[int]]:
    """Processes by the id of their parent."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                # the name, in parentheses, may hold anything; the parent is the 2nd field after
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(folder.name))
    return children


def _descendants() -> list[int]:
    children = _children()
    descendants: list[int] = []
    new = [os.getpid()]
    while new:
        new = [child for parent in new for child in children.get(parent, [])]
        descendants += new
    return descendants


def _signal_all(number: int) -> bool:
    """Signal every descendant; tells whether there was any."""
    pids = _descendants()
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    return bool(pids)


def _reap(program: int) -> int | None:
    """Collect children that ended; the program's status when it is among them."""
    status = None
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == program:
            code = os.waitstatus_to_exitcode(raw)
            status = code if code >= 0 else 128 - code


def _end_all(program: int) -> int:
    """Ask every descendant to end, then kill what is left."""
    status = 128 + signal.SIGKILL
    deadline = time.monotonic() + _GRACE_S
    # the program ends its workers; they, in the middle of a task, are told too
    more = _signal_all(signal.SIGTERM)
    while more and time.monotonic() < deadline:
        status = _reap(program) or status
        more = bool(_descendants())
        signal.sigtimedwait({signal.SIGCHLD}, 0.02)
    while _signal_all(signal.SIGKILL):
        status = _reap(program) or status
        signal.sigtimedwait({signal.SIGCHLD}, 0.02)
    return status


def main(argv: list[str]) -> int:
    """Run the program; returns its exit status."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    # whoever signals the guard means the program
    wake_read, wake_write = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(wake_write, b"x"))
    guard = os.getpid()
    program = os.fork()
    if program == 0:
        try:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:
                os._exit(127)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execv(argv[0], argv)
        except OSError as error:
            sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        finally:
            os._exit(127)
    ended = os.pidfd_open(program)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(0, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if ended in ready:
            status = _reap(program)
            if status is not None:
                return status
        elif ready:
            return _end_all(program)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
