"""``pytest-carthage view MACHINE``: its screen, by a viewer of VNC."""

from __future__ import annotations

import argparse
import os
import selectors
import shlex
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli import target
from pytest_carthage.errors import CarthageError

if TYPE_CHECKING:
    from pytest_carthage.provider import View
    from pytest_carthage.state.listing import Listed

_PIECE = 1 << 16
#: bytes of the path of a socket, see unix(7)
_LONGEST = 107
#: the display on which a viewer opens its window
_DISPLAYS = ("WAYLAND_DISPLAY", "DISPLAY")


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "view",
        help="look at a machine's screen",
        description="Open a viewer of a live machine's screen; where there is no display, or no "
        "viewer, print the commands that open one. The screen speaks VNC at a UNIX socket that "
        "nobody else can use.",
    )
    target.add_machine(parser)
    parser.add_argument(
        "-p", "--print", action="store_true", dest="prints", help="print commands in any case"
    )
    parser.add_argument(
        "--tcp",
        metavar="PORT",
        type=_port,
        help="serve it at this port of 127.0.0.1, without a password, until Ctrl-C",
    )
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of a port")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Open it, serve it, or say how to."""
    environment, machine = target.machine(arguments.machine)
    view = _view(environment, machine)
    if arguments.tcp is not None:
        return _serve(view, arguments.tcp)
    commands = _commands(view)
    has_display = any(os.environ.get(name) for name in _DISPLAYS)
    if has_display and not arguments.prints:
        for command in commands:
            if shutil.which(command[0]):
                return subprocess.run(command).returncode
    print("# on this host, with a display:")
    print("\n# or\n".join(map(shlex.join, commands)))
    print("# from another one, by any viewer of VNC:")
    far = str(view.socket)
    if len(far) > _LONGEST:
        far = "127.0.0.1:5901"
        print(f"pytest-carthage view {environment.name}/{machine} --tcp 5901 &  # on this host")
    print(shlex.join(["ssh", "-N", "-L", f"5901:{far}", socket.gethostname()]), "&")
    print("vncviewer 127.0.0.1:1")
    return 0


def _view(environment: Listed, machine: str) -> View:
    """Where the screen is.

    :raises CarthageError: there is none.
    """
    from pytest_carthage.provider import Shows, load_providers

    kind = str(environment.machines[machine].get("target"))
    make = load_providers().get(kind)
    provider: object = None if make is None else make()
    view = provider.view(environment.folder, machine) if isinstance(provider, Shows) else None
    if view is None:
        name = f"{environment.name}/{machine}"
        which = "that are declared as this one" if isinstance(provider, Shows) else "of its own"
        raise CarthageError(
            f"machine {machine!r} of environment {environment.name!r} has no screen: target "
            f"{kind!r} gives none to machines {which}; try: pytest-carthage console {name}, or "
            f"pytest-carthage shell {name}"
        )
    return view


def _commands(view: View) -> list[list[str]]:
    """The commands of viewers on this host; TigerVNC's takes sockets, too."""
    direct = ["vncviewer", str(view.socket)]
    if not view.uri:
        return [direct]
    return [["virt-viewer", "--attach", "--connect", view.uri, view.domain], direct]


def _serve(view: View, port: int) -> int:
    """Carry connections from a port of the loopback address to the screen."""
    with socket.create_server(("127.0.0.1", port)) as listening, _Relay(listening, view) as relay:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        print(f"vncviewer {address.replace(':', '::')}  # or vnc://{address}, until Ctrl-C")
        sys.stdout.flush()
        relay.run()
    return 0


class _Relay:
    """Copies between each client and a connection of its own to the screen."""

    def __init__(self, listening: socket.socket, view: View) -> None:
        self._view = view
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)

    def __enter__(self) -> _Relay:
        return self

    def __exit__(self, *exc: object) -> None:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def run(self) -> None:
        """Go on until the screen is gone."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listening:
                    if not self._accept():
                        return
                elif key.fd in self._selector.get_map():
                    self._copy(key.fileobj, key.data)  # type: ignore[arg-type]

    def _accept(self) -> bool:
        from pytest_carthage.fabric.wire import frames

        client, _ = self._listening.accept()
        try:
            far = frames.connect(str(self._view.socket))
        except OSError as error:
            client.close()
            print(f"pytest-carthage: the screen is gone: {error.strerror}", file=sys.stderr)
            return False
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(client, selectors.EVENT_READ, far)
        self._selector.register(far, selectors.EVENT_READ, client)
        return True

    def _copy(self, near: socket.socket, far: socket.socket) -> None:
        try:
            data = near.recv(_PIECE)
            far.sendall(data)
        except OSError:
            data = b""
        if not data:
            for end in (near, far):
                self._selector.unregister(end)
                end.close()
