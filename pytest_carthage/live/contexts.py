"""What providers are given to create the machines of one live layout."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_carthage.fabric import limits
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.fabric.spec import PlaceKind, RootSpec
from pytest_carthage.fabric.wire import channel
from pytest_carthage.handles.channel import Channel
from pytest_carthage.live.intents import Intents
from pytest_carthage.live.runs import Run
from pytest_carthage.live.surroundings import Surroundings
from pytest_carthage.placing.batches import Batches
from pytest_carthage.placing.specs import machine_spec
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.provider import Context, Identity, Provider
from pytest_carthage.providing import Providers

__all__ = ["Contexts"]


class Contexts:
    """Makes a provider's context for each machine: its identity, its place, the ways to it."""

    def __init__(
        self,
        *,
        surroundings: Surroundings[Any],
        run: Run,
        fabric: Channel,
        providers: Providers,
        lifetime: contextlib.AsyncExitStack,
        station: Callable[[str], Awaitable[str]],
    ) -> None:
        self._surroundings = surroundings
        self._run = run
        self._fabric = fabric
        self._lifetime = lifetime
        self._station = station
        #: whether an address means two machines, so that each has names of its own
        self._has_twins = surroundings.plan.has_twins
        self._batches = Batches(fabric, lambda: surroundings.plan.hosts_file(()))
        #: what providers may have to destroy
        self.intents = Intents(run=run, environment=surroundings.name, providers=providers)

    @property
    def _logs(self) -> Path:
        return self._surroundings.folder / "logs"

    async def place(
        self, planned: PlannedMachine, kind: PlaceKind, root: RootSpec | None = None
    ) -> Mapping[str, Any]:
        """Have the fabric make what is planned, see :class:`.provider.Context`."""
        group = limits.control_group(self._run.id, self._surroundings.name)
        spec = machine_spec(planned, kind, self._logs, group, root)
        if self._has_twins:
            spec["hosts"] = self._surroundings.plan.hosts_file(planned.networks)
        return await self._batches.place(spec)

    async def channel(self, machine: str) -> Channel:
        """Open a channel to the agent of a machine; it is closed with the layout."""
        subject = f"machine {machine!r} of layout {self._surroundings.plan.layout!r}"
        opened = await channel.connect(
            str(self._surroundings.folder / "fabric.sock"), subject, machine
        )
        self._lifetime.callback(opened.close)
        return opened

    async def deputy(self, machine: str, argv: Sequence[str]) -> Channel:
        """Start a process that answers in a machine's place; returns the channel to it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            await self._run.deputy(
                self._surroundings.name,
                argv,
                env={"PATH": PATH, "LANG": "C.UTF-8"},
                log=self._logs / f"{machine}.deputy.log",
                control=theirs.fileno(),
            )
            await self._fabric.request("deputy", machine=machine, fds=(ours.fileno(),))
        return await self.channel(machine)

    async def context(
        self, planned: PlannedMachine | None, provider: Provider, *, stands: bool = False
    ) -> Context:
        """What a provider is given to create a machine; None: to prepare the environment.

        :param stands: it exists already, and is only taken up.
        """
        if planned is None:
            run, environment = self._run.id, self._surroundings.name
            identity = Identity(kind=provider.kind, run=run, environment=environment, name="")
        elif stands:
            identity = self.intents.identity(planned)
        else:
            identity = await self.intents.begin(planned, provider)
        return Context(
            identity=identity,
            plan=self._surroundings.plan,
            fabric=self._fabric,
            place=self.place,
            channel=self.channel,
            deputy=self.deputy,
            station=self._station,
            folder=self._surroundings.folder,
            logs=self._logs,
            intend=lambda identity: self.intents.write(provider, identity),
            note=lambda who, text: self._surroundings.tell(who, "note", text),
        )
