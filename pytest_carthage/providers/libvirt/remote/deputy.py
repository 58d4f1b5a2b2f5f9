"""The deputy of a machine of another host's libvirt: its agent, its console and its cables."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_carthage import clock
from pytest_carthage.channels.deputy import deputy_command
from pytest_carthage.channels.far.deputy import FarDeputy
from pytest_carthage.fabric.wire import client, frames
from pytest_carthage.providers.libvirt.domain import AGENT
from pytest_carthage.providers.libvirt.remote.cable import carry
from pytest_carthage.providers.libvirt.remote.streams import bridge
from pytest_carthage.providers.libvirt.remote.tunnel import Tunnel
from pytest_carthage.providers.libvirt.remote.uri import LibvirtUri

__all__ = ["deputy_of_domain"]

#: between attempts to reach what is not there
_AGAIN_S = 0.2
#: how long the way to the host may take at first
_OPEN_S = 30.0
#: how long a former deputy may keep a tap
_TAP_S = 10.0
_POLL_S = 0.02
#: of the environment of who builds it: what ssh looks for keys by
_SURROUNDINGS = ("HOME", "USER", "LOGNAME", "PATH", "SSH_AUTH_SOCK")


class _Domain:
    """A domain, by a connection of this process's own."""

    def __init__(self, tunnel: Tunnel, uuid: str) -> None:
        self._tunnel = tunnel
        self._uuid = uuid
        self._libvirt: Any = importlib.import_module("libvirt")
        self._libvirt.registerErrorHandler(lambda context, error: None, None)
        self._connection: Any = None
        self._opening = threading.Lock()
        #: why it could not be reached the last time
        self.failure = ""

    def stream(self, begin: Callable[[Any, Any, Any], None]) -> Any:
        """A stream that ``begin(libvirt, domain, stream)`` has opened.

        :raises OSError: with libvirt's words.
        """
        libvirt = self._libvirt
        try:
            with self._opening:
                if self._connection is None or not self._connection.isAlive():
                    self._connection = libvirt.open(self._tunnel.libvirt())
            stream = self._connection.newStream(0)
            begin(libvirt, self._connection.lookupByUUIDString(self._uuid), stream)
        except libvirt.libvirtError as error:
            self.failure = str(error)
            raise OSError(errno.ENOTCONN, str(error)) from None
        return stream


class _AgentLine:
    """A stream to the port that the agent in the machine listens on."""

    is_shared = True

    def __init__(self, domain: _Domain) -> None:
        self._domain = domain

    def open(self) -> socket.socket:
        """Open it; see :class:`pytest_carthage.channels.far.link.Line`."""

        def begin(libvirt: Any, domain: Any, stream: Any) -> None:
            domain.openChannel(AGENT, stream, libvirt.VIR_DOMAIN_CHANNEL_FORCE)

        stream = self._domain.stream(begin)
        ours, theirs = socket.socketpair()
        bridge(stream, theirs)
        return ours

    def why(self) -> str:
        """What libvirt has said last."""
        return self._domain.failure


def _open_console(libvirt: Any, domain: Any, stream: Any) -> None:
    domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)


def _record(domain: _Domain, serial: str) -> list[threading.Thread]:
    """Have what its console prints go to the recorder, and what is typed there to it.

    :raises OSError: it is off, or cannot be reached.
    """
    sock = frames.connect(serial)
    try:
        stream = domain.stream(_open_console)
    except BaseException:
        sock.close()
        raise
    return bridge(stream, sock)


def _keep(what: str, carried: Callable[[], object]) -> None:
    """Have something carried again and again, for as long as this process lives."""
    last = ""
    while True:
        try:
            carried()
        except (OSError, ValueError) as error:
            if str(error) != last:
                last = str(error)
                print(f"{what}: {last}", flush=True)
        # nothing tells that the machine is on again
        time.sleep(_AGAIN_S)


def _tap(fabric: str, machine: str, port: str) -> int:
    """The tap of a port; its cable has a carrier from now on.

    :raises OSError: somebody else has it, or there is none.
    """
    deadline = clock.monotonic_s() + _TAP_S
    while True:
        try:
            with client.connect(fabric, limit_s=_TAP_S) as asked:
                _, (fd,) = asked.request("tap", machine=machine, port=port)
        except client.Refused as refused:
            if refused.errno != errno.EBUSY or clock.monotonic_s() > deadline:
                raise OSError(refused.errno, str(refused)) from None
            time.sleep(_POLL_S)
        else:
            return int(fd)


def _begin(tunnel: Tunnel) -> None:
    """Have the way to the host kept open by a thread, which it would not outlive.

    :raises OSError: it cannot be opened.
    """
    opened = threading.Event()

    def keep() -> None:
        while True:
            tunnel.start()
            while not tunnel.has_ended:
                if tunnel.is_open:
                    opened.set()
                time.sleep(_POLL_S if not opened.is_set() else _AGAIN_S)
            print(f"ssh: {tunnel.why()}", flush=True)
            time.sleep(_AGAIN_S)

    threading.Thread(target=keep, name="ssh", daemon=True).start()
    if not opened.wait(_OPEN_S):
        raise OSError(f"no way to its host in {_OPEN_S:g} s: {tunnel.why()}")


def deputy_of_domain(
    *,
    uri: str,
    uuid: str,
    folder: Path,
    machine: str,
    serial: Path,
    ports: Mapping[str, int],
    env: Mapping[str, str],
) -> Sequence[str]:
    """The command of a deputy, which is reached once it is connected with the machine.

    :param uri: of the libvirt.
    :param uuid: of the domain, which is defined, and may be on.
    :param folder: of the environment.
    :param serial: socket of who records its console.
    :param ports: port of the fabric to the TCP port of the host's loopback address where QEMU
        waits for the other end of the cable.
    :param env: variables of every command.
    """
    surroundings = {name: os.environ[name] for name in _SURROUNDINGS if name in os.environ}
    arguments = [uri, uuid, str(folder), machine, str(serial), dict(ports), dict(env), surroundings]
    return deputy_command(f"{__name__}:_serve", *arguments)


def _serve(
    control: socket.socket,
    uri: str,
    uuid: str,
    folder: str,
    machine: str,
    serial: str,
    ports: Mapping[str, int],
    env: Mapping[str, str],
    surroundings: Mapping[str, str],
) -> None:
    os.environ.update(surroundings)
    # the path of a socket has 108 bytes
    os.chdir(Path(serial).parent)
    tunnel = Tunnel(LibvirtUri.of(uri), Path("far"), list(ports.values()))
    domain = _Domain(tunnel, uuid)
    deputy = FarDeputy(_AgentLine(domain), env=env, way="agent", window=None)
    _begin(tunnel)
    began: list[threading.Thread] = []
    with contextlib.suppress(OSError):  # it is off
        began = _record(domain, serial)

    def record() -> None:
        nonlocal began
        for thread in began or _record(domain, serial):
            thread.join()
        began = []

    threading.Thread(target=_keep, args=["console", record], daemon=True).start()
    for port, number in ports.items():
        tap = _tap(f"{folder}/fabric.sock", machine, port)

        def link(tap: int = tap, number: int = number) -> None:
            with tunnel.connect(number) as sock:
                carry(tap, sock)

        threading.Thread(target=_keep, args=[f"cable {port}", link], daemon=True).start()
    deputy.serve(control)
