"""The process that serves files: a fork of a machine's agent, which needs nothing of the machine.

All of it was loaded before the agent entered the machine.
"""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.sftp import server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.fabric.accounts import Account
    from pytest_carthage.fabric.limits import Admission

__all__ = ["fork"]

_NAME = "sftp-server"
#: those that Python, or the agent, hears itself
_SIGNALS = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)


def fork(account: Account, folder: str, fds: Sequence[int], admission: Admission) -> int:
    """Fork it; returns its process id.

    :param folder: where it works.
    :param fds: its standard streams.
    :param admission: where it is, and the agent is not.
    """
    pid = sys_.fork()
    if pid:
        return pid
    status = 1
    try:
        gc.freeze()
        signal.set_wakeup_fd(-1)
        admission.enter()
        sys_.default_signals(_SIGNALS)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _settle(account, folder, fds)
        server.serve(account.home)
        status = 0
    except BaseException as error:
        os.write(2, f"{_NAME}: {type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(status)


def _settle(account: Account, folder: str, fds: Sequence[int]) -> None:
    """Be a program of the user's, and nothing of the agent."""
    os.setsid()
    for number, fd in enumerate([os.dup(fd) for fd in fds]):
        os.dup2(fd, number)
    sys_.close_all_but((0, 1, 2))
    if (account.uid, account.gid) != (os.getuid(), os.getgid()):
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
    # it has memory of the agent's, which is nobody's to look into
    sys_.be_looked_into(False)
    sys_.set_process_name(_NAME)
    os.chdir(folder)
