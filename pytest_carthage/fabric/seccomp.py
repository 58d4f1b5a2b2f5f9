"""The system call filters of a process, put on another one (seccomp(2), ptrace(2)).

An engine filters the calls of a container's first process, and all its descendants inherit that.
Who joins the container from outside has to put on the same filters.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_carthage.fabric import syscalls as sys_


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def filters(pid: int) -> list[bytes]:
    """Filters of a process that it does not see being read; the oldest first.

    It stands still meanwhile. The caller is privileged and has no filter of its own.

    :raises OSError: the kernel gives them to nobody (CONFIG_CHECKPOINT_RESTORE), or not to us.
    """
    sys_.ptrace(sys_.PTRACE_SEIZE, pid)
    try:
        sys_.ptrace(sys_.PTRACE_INTERRUPT, pid)
        os.waitpid(pid, sys_.WALL)
        programs: list[bytes] = []
        while True:
            try:
                length = sys_.ptrace(sys_.PTRACE_SECCOMP_GET_FILTER, pid, len(programs))
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                return programs
            buffer = ctypes.create_string_buffer(length * 8)
            address = ctypes.addressof(buffer)
            sys_.ptrace(sys_.PTRACE_SECCOMP_GET_FILTER, pid, len(programs), address)
            programs.append(buffer.raw)
    finally:
        sys_.ptrace(sys_.PTRACE_DETACH, pid)


def put_on(programs: list[bytes]) -> None:
    """Filter the calls of this process, and of all that it starts, for good.

    :raises OSError: the kernel refused: it takes CAP_SYS_ADMIN.
    """
    for text in programs:
        with loaded(text) as address:
            sys_.filter_calls(address)


@contextmanager
def loaded(text: bytes) -> Iterator[int]:
    """Address of a program in memory, as the kernel takes it (``struct sock_fprog``)."""
    buffer = ctypes.create_string_buffer(text, len(text))
    program = _Program(len(text) // 8, ctypes.addressof(buffer))
    yield ctypes.addressof(program)
