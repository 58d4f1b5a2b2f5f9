"""Stations of a fabric: what programs of the host find there beside a network.

They may leave others running, as programs of a server do: these live in a PID namespace of the
station, whose first process does nothing. It is a child of the fabric's, and ends with it; then the
kernel ends all the others.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from pytest_carthage.fabric import birth, netlink
from pytest_carthage.fabric import syscalls as sys_

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_carthage.fabric.namespaces import Home

__all__ = ["Stations", "take_addresses"]


class Stations:
    """Those of one fabric."""

    def __init__(self, home: Home) -> None:
        self._home = home
        #: station to its first process, and the descriptor of its PID namespace
        self._first: dict[str, tuple[int, int]] = {}

    def processes(self, name: str) -> int:
        """A new descriptor of a station's PID namespace, which is made where there is none.

        :raises OSError: the kernel refused.
        """
        if name not in self._first:
            sys_.unshare(sys_.CLONE_NEWPID)
            try:
                pid = birth.fork(_keep, keep=())
                namespace = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                self._home.bear_here()
            self._first[name] = pid, namespace
        return os.dup(self._first[name][1])

    def child_ended(self, pid: int) -> bool:
        """A child has ended; returns whether it was one of these, all of whose programs ended."""
        for name, (first, namespace) in list(self._first.items()):
            if first == pid:
                del self._first[name]
                os.close(namespace)
                return True
        return False


def _keep() -> None:
    """Child: keep a PID namespace until the fabric ends."""
    sys_.set_process_name("carthage-station")
    sys_.set_command_line("carthage-station")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    while True:
        signal.pause()


def take_addresses(addresses: Iterable[str]) -> None:
    """Have the loopback of the network that the caller is in answer for further addresses.

    :raises OSError: the kernel refused.
    """
    batch = netlink.Batch()
    for address in addresses:
        batch.address("lo", address, again=True)
    if len(batch):
        batch.commit()
