"""pyroute2 in a live machine's network: its socket is made there, and handed over."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import HostError, Problem, UnsupportedError

if TYPE_CHECKING:
    import socket
    import types

    import pyroute2

__all__ = ["async_iproute", "iproute", "library"]

#: the first whose sockets may be given to it, by both of its classes
_OLDEST = (0, 9, 1)


class _Nobody:
    """Stands where pyroute2 does by itself what a netlink socket cannot: in *our* network.

    Such are devices of ``/dev/net/tun``, and its probes.
    """

    def __init__(self, who: str, proxy: Any) -> None:
        self._who = who
        self._proxy = proxy

    def handle(self, message: Any) -> bytes:
        """Refuse what would be done outside of the machine.

        :raises UnsupportedError: it would.
        """
        for predicate, _ in self._proxy.route.get(message["header"]["type"], ()):
            if predicate(message):
                raise UnsupportedError(
                    f"{self._who}: pyroute2 makes this (a tun or tap device, or a probe) in the "
                    "network of whoever calls it, not by the socket that is the machine's; try: "
                    "run('ip tuntap add ...'), or ping()"
                )
        return b""


def library(who: str) -> types.ModuleType:
    """pyroute2 itself.

    :param who: the machine, for a message.
    :raises HostError: it is not installed, or too old to be given a socket.
    """
    try:
        import pyroute2
    except ModuleNotFoundError as error:
        if error.name != "pyroute2":
            raise
        raise _missing(who, f"which {sys.executable} does not have") from error
    version = str(pyroute2.__version__)
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    if numbers < _OLDEST:
        raise _missing(who, f"of which {sys.executable} has {version}, older than 0.9.1")
    module: types.ModuleType = pyroute2
    return module


def _missing(who: str, what: str) -> HostError:
    remedy = "pip install 'pytest-carthage[iproute]'"
    complaint = f"iproute() and network of {who} are pyroute2's, {what}"
    return HostError([Problem(who="pyroute2", what=complaint, remedy=remedy)])


def iproute(who: str, sock: socket.socket) -> pyroute2.IPRoute:
    """An ``IPRoute`` that has this netlink socket, and closes it.

    :raises RuntimeError: an event loop runs here, on which it could not wait.
    """
    if _is_in_loop():
        sock.close()
        raise RuntimeError(
            f"{who}: iproute() waits, and an event loop runs here; try: "
            "async with await machine.aio.iproute() as ipr"
        )
    made = library(who).IPRoute(fileno=sock.detach())
    made.asyncore.request_proxy = _Nobody(who, made.asyncore.request_proxy)
    return made


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def async_iproute(who: str, fd: int) -> pyroute2.AsyncIPRoute:
    """The same for coroutines, on whichever event loop runs where it is first used."""
    made = library(who).AsyncIPRoute(fileno=fd)
    made.request_proxy = _Nobody(who, made.request_proxy)
    return made
