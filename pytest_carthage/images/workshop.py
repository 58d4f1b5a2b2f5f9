"""Opening the file system of an image that is not booted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import AnsibleError, BuildError
from pytest_carthage.fabric.host import privilege
from pytest_carthage.fabric.wire import channel
from pytest_carthage.store import disk
from pytest_carthage.store.packages import packages_folder
from pytest_carthage.work.files.filesystem import AsyncFilesystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from pytest_carthage.events import Reporter
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.portal import Portal
    from pytest_carthage.store.root import Store
    from pytest_carthage.work.ansible.environment import Environment
    from pytest_carthage.work.ansible.station import Station

__all__ = ["NeedsPython", "Workshop", "copied", "opened"]

_PACKAGE = Path(__file__).resolve().parents[2]
_CODE = (
    f"import sys; sys.path.insert(0, {str(_PACKAGE)!r});"
    "from pytest_carthage.fabric.workshop import main; main()"
)
_START_S = 30.0
#: environment of what runs in an image that is not booted
_ENV = {"DEBIAN_FRONTEND": "noninteractive", "PYTHONDONTWRITEBYTECODE": "1"}


class NeedsPython(BaseException):
    """A task applies Ansible to an image without a Python: it has to be begun anew with one."""


class Workshop(AsyncFilesystem):
    """The file system of an image that is not booted."""

    def __init__(self, name: str, *, who: str, portal: Portal, folder: Path) -> None:
        super().__init__(name, who=who, portal=portal)
        self.package_cache = packages_folder
        #: where its new layer is, and what is needed meanwhile
        self.folder = folder
        #: whether there is a Python for Ansible, be it beneath the image
        self.python = False
        #: whether it has the host's network
        self.network = False
        self.groups: Sequence[str] = ()
        self.reporter: Reporter | None = None

    async def connect(self) -> None:
        """Connect to the agent."""
        self._channel = await channel.connect(str(self.folder / "agent.sock"), self._who, self.name)

    def disconnect(self) -> None:
        """Close the connection."""
        if isinstance(self._channel, channel.AsyncChannel):
            self._channel.close()
        self._channel = None

    async def ansible_environment(self) -> Environment:
        """A layout of this one machine, without networks."""
        if not self.python and not await self.exists("/usr/bin/python3"):
            raise NeedsPython
        return _Alone(self)


class _Alone:
    """The environment that Ansible sees."""

    def __init__(self, workshop: Workshop) -> None:
        from pytest_carthage.events import Silent
        from pytest_carthage.planning.plan import Plan, PlannedMachine

        self.name = workshop.name
        self.folder = workshop.folder
        self.socket = workshop.folder / "agent.sock"
        self.reporter: Reporter = workshop.reporter or Silent()
        machine = PlannedMachine(
            name=workshop.name,
            hostname=workshop.name,
            target="image",
            image=None,
            links=(),
            groups=tuple(workshop.groups),
            variables=MappingProxyType({"ansible_remote_tmp": "/tmp"}),
        )
        self.plan: Plan = Plan(
            layout=workshop.name,
            networks={},
            machines=MappingProxyType({workshop.name: machine}),
        )
        self._has_network = workshop.network

    @contextlib.asynccontextmanager
    async def ansible_station(
        self, outside: Sequence[str], *, for_s: float
    ) -> AsyncIterator[Station]:
        """Where plays run: with the network that the image's own programs have, or none."""
        from pytest_carthage.work.ansible.station import HOST, Station

        if outside:
            raise AnsibleError(
                f"image {self.name!r}: nothing leads out of a build; try: network=True for the task"
            )
        yield HOST if self._has_network else Station(sockets=(str(self.folder),))


@contextlib.asynccontextmanager
async def opened(
    lower: Sequence[Path],
    folder: Path,
    *,
    name: str,
    who: str,
    portal: Portal,
    network: bool = False,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Workshop]:
    """The file system of layers, while the block runs; ``folder/tree`` is the new top layer.

    :param lower: trees of layers, the top first.
    :param folder: exists; everything in it but ``tree`` is for the block only.
    :param network: the host's network, not just loopback.
    :raises BuildError: it cannot be opened on this host.
    """
    spec: dict[str, Any] = {
        "folder": str(folder),
        "lower": [str(path) for path in lower],
        "network": network,
        "hostname": _hostname(name),
        "env": {**_ENV, **(env or {})},
        "unprivileged": not privilege.is_privileged(),
    }
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _CODE, json.dumps(spec)]
    if spec["unprivileged"]:
        command = ["unshare", "--user", "--map-root-user", "--map-auto", "--", *command]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
        env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")},
        start_new_session=True,
    )
    workshop = Workshop(name, who=who, portal=portal, folder=folder)
    workshop.network = network
    try:
        await _wait_until_ready(process, who)
        await workshop.connect()
        yield workshop
    finally:
        workshop.disconnect()
        await asyncio.shield(_end(process))


@contextlib.asynccontextmanager
async def copied(
    store: Store,
    lower: Sequence[Path],
    *,
    name: str,
    who: str,
    portal: Portal,
    network: bool = False,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Workshop]:
    """A copy of the file system of layers, as :func:`opened`; it is thrown away at the end.

    :raises BuildError: it cannot be opened on this host.
    """
    folder, claim = store.scratch("look")
    try:
        (folder / "tree").mkdir(mode=0o755)
        (folder / "logs").mkdir()
        async with opened(
            lower, folder, name=name, who=who, portal=portal, network=network, env=env
        ) as workshop:
            yield workshop
    finally:
        await asyncio.shield(asyncio.to_thread(disk.delete, folder))
        claim.release()


async def _wait_until_ready(process: asyncio.subprocess.Process, who: str) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(_START_S):
            line = (await process.stdout.readline()).decode(errors="replace").strip()
    except TimeoutError:
        line = f"no word in {_START_S:g} s"
    if line == "ready":
        return
    if not line:
        line = (await process.stderr.read()).decode(errors="replace").strip()[-500:]
    raise BuildError(f"{who}: its file system cannot be opened: {line or 'it ended at once'}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Have it end, with all that was started in it, and wait until the kernel is done."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            await pipe.read()  # its end comes with the last who can write: all are gone then


def _hostname(name: str) -> str:
    """A host name made of what an image is called."""
    letters = (char if char.isascii() and char.isalnum() else "-" for char in name.lower())
    return "".join(letters)[:63].strip("-") or "image"
