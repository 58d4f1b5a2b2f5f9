"""From a plan to live machines: the only owner of lifetimes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_carthage.access.handle import MachineHandle
from pytest_carthage.access.machine import AsyncMachine
from pytest_carthage.access.resolved import Resolutions, Subscriber
from pytest_carthage.access.welcome import Welcome
from pytest_carthage.errors import (
    BlockedError,
    CarthageError,
    CreationError,
    FabricError,
    HostError,
    LayoutError,
    Problem,
    StateError,
)
from pytest_carthage.fabric import channel, limits, privilege
from pytest_carthage.images.policy import Policy
from pytest_carthage.planning import extend_plan, reduce_plan
from pytest_carthage.planning.resolver import resolv_conf
from pytest_carthage.portal import Opening, Portal, bridged, on_core
from pytest_carthage.provider import Channel, Context, Means, Provider, StartsFromImages
from pytest_carthage.report.events import Event, Kind, Reporter, Silent
from pytest_carthage.report.sketch import sketch
from pytest_carthage.state import places

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from pytest_carthage.access.capture import AsyncCapture, Capture
    from pytest_carthage.access.disturbance import AsyncDisturbance, Disturbance, Group
    from pytest_carthage.access.gate import AsyncGate, Gate
    from pytest_carthage.access.inside import Inside, Station
    from pytest_carthage.access.recording import Recording
    from pytest_carthage.access.sealing import Neighbour, SealReport
    from pytest_carthage.access.span import AsyncSpan, Span
    from pytest_carthage.fabric.channel import AsyncChannel
    from pytest_carthage.images.store import Built
    from pytest_carthage.model.machine import Machine
    from pytest_carthage.planning.plan import Plan, PlannedLink, PlannedMachine, PlannedRoute
from pytest_carthage.state.run import Run

__all__ = ["AsyncEnvironment", "Environment", "Providers", "check"]


class Providers:
    """The providers of this process, made when they are first asked for."""

    def __init__(self, factories: Mapping[str, Callable[[], Provider]]) -> None:
        self._factories = dict(factories)
        self._made: dict[str, Provider] = {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """Targets that there are."""
        return tuple(sorted(self._factories))

    def __getitem__(self, kind: str) -> Provider:
        if kind not in self._made:
            if kind not in self._factories:
                raise LayoutError(f"unknown target {kind!r}; there are: {', '.join(self.kinds)}")
            self._made[kind] = self._factories[kind]()
        return self._made[kind]

    def needed(self, plan: Plan) -> Mapping[str, Provider]:
        """Providers of a plan's machines, by target."""
        targets = dict.fromkeys(machine.target for machine in plan.machines.values())
        return {target: self[target] for target in targets}


def check(plan: Plan, providers: Providers) -> Sequence[Problem]:
    """List what this host lacks for a plan; nothing is created."""
    return [
        problem for provider in providers.needed(plan).values() for problem in provider.check(plan)
    ]


class _Batches:
    """Collects the machines that are asked for in one turn of the loop into one request."""

    def __init__(self, fabric: Channel, hosts: Callable[[], str]) -> None:
        self._fabric = fabric
        self._hosts = hosts
        self._specs: list[dict[str, Any]] = []
        self._answers: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def place(self, spec: dict[str, Any]) -> Mapping[str, Any]:
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[spec["name"]] = future
        self._specs.append(spec)
        if self._task is None:
            self._task = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        await asyncio.sleep(0)  # let the others of this turn ask, too
        specs, answers = self._specs, self._answers
        self._specs, self._answers, self._task = [], {}, None
        try:
            reply, _ = await self._fabric.request("machines", machines=specs, hosts=self._hosts())
        except BaseException as error:
            for future in answers.values():
                if not future.done():
                    future.set_exception(error)
            return
        for name, future in answers.items():
            if future.done():
                continue
            if name in reply["made"]:
                future.set_result(reply["made"][name])
            else:
                future.set_exception(FabricError(reply["failed"].get(name, "not made")))


def _spec(planned: PlannedMachine, kind: str, logs: Path, environment: str) -> dict[str, Any]:
    """A planned machine as the fabric takes it."""
    return {
        "name": planned.name,
        "kind": kind,
        "hostname": planned.hostname,
        "links": [_link_spec(link) for link in planned.links],
        "routes": _routes(planned),
        "forwards": [
            {
                "interface": one.interface,
                "protocol": one.protocol,
                "port": one.port,
                "to": str(one.to),
                "to_port": one.to_port,
            }
            for one in planned.forwards
        ],
        "forward": planned.forward,
        "resolv": resolv_conf(planned),
        "env": dict(planned.env),
        "command": list(planned.command) if planned.command else None,
        "log": str(logs / f"{planned.name}.log"),
        "limits": asdict(planned.limits) if planned.limits is not None else None,
        "control_group": f"{limits.control_group(environment)}/{planned.name}",
    }


def _link_spec(link: PlannedLink) -> dict[str, Any]:
    """A planned link as the fabric takes it."""
    underlay = link.underlay
    return {
        "interface": link.interface,
        "kind": link.kind,
        "bridge": link.bridge,
        "port": link.port,
        "mac": link.mac,
        "mtu": link.mtu,
        "up": link.admin_up,
        "addresses": [str(address) for one in link.addressings for address in one.configured],
        "accept_ra": link.v6 is not None and link.v6.asks,
        "masquerade": [one.network.version for one in link.addressings if one.masquerade],
        "over": list(link.over),
        "vlan": link.vlan_id,
        "vlans": [
            {"id": vlan.vlan_id, "bridge": vlan.bridge, "port": vlan.port} for vlan in link.vlans
        ],
        "vni": link.vni,
        "local": str(underlay.local) if underlay is not None else None,
        "remotes": [str(remote) for remote in underlay.remotes] if underlay is not None else [],
        "members": [{"interface": member, "port": port} for member, port in link.members],
    }


def _routes(planned: PlannedMachine) -> list[dict[str, Any]]:
    """Routes as the fabric takes them; who asks a server is told its gateway there."""
    gateways = [
        {
            "destination": None,
            "via": str(one.gateway),
            "interface": link.interface,
            "metric": one.metric,
        }
        for link in planned.links
        for one in link.addressings
        if one.gateway is not None and not one.asks and link.admin_up
    ]
    static = [
        {
            "destination": str(route.destination),
            "via": str(route.via),
            "interface": (interface := _asks_on_the_way(planned, route)),
            "onlink": interface is not None,
            "metric": None,
        }
        for route in planned.routes
    ]
    return [*gateways, *static]


def _asks_on_the_way(planned: PlannedMachine, route: PlannedRoute) -> str | None:
    """The interface of a route whose next hop is on no link yet: its address is still asked for."""
    for link in planned.links:
        if any(one.asks and route.via in one.network for one in link.addressings):
            return link.interface
    return None


class AsyncEnvironment:
    """One live layout, on the portal's event loop."""

    def __init__(
        self,
        *,
        name: str,
        run: Run,
        plan: Plan,
        providers: Providers,
        portal: Portal,
        reporter: Reporter,
        folder: Path,
        fabric: AsyncChannel,
        subscribers: Sequence[Subscriber] = (),
        policy: Policy = Policy(),  # noqa: B008  a value
    ) -> None:
        self.name = name
        self.run = run
        self.plan = plan
        self.portal = portal
        self.reporter = reporter
        self.folder = folder
        self.logs = folder / "logs"
        #: UNIX socket of the fabric; other processes reach the machines by it
        self.socket = folder / "fabric.sock"
        self.fabric = fabric
        self.machines: dict[str, AsyncMachine] = {}
        self.resolutions = Resolutions(self, subscribers)
        self.closed = False
        self._providers = providers
        self._has_twins = plan.has_twins
        self._batches = _Batches(fabric, lambda: self.plan.hosts_file(()))
        self._channels: list[AsyncChannel] = [fabric]
        self.policy = policy
        self.welcome = Welcome()
        self._images: dict[str, asyncio.Task[Built]] = {}
        #: every fault that was begun here, also those that are healed
        self.disturbances: list[AsyncDisturbance] = []
        #: every gate that was opened here, also those that are closed
        self.gates: list[AsyncGate] = []
        #: places on networks for programs of the host, by network
        self.stations: dict[str, Station] = {}
        #: captures that are running
        self.captures: list[AsyncCapture] = []
        #: the last packets of its networks, where that was asked for
        self.recording: Recording | None = None

    # building

    @classmethod
    async def build(
        cls,
        plan: Plan,
        *,
        name: str,
        run: Run,
        providers: Providers,
        portal: Portal,
        reporter: Reporter | None = None,
        subscribers: Sequence[Subscriber] = (),
        policy: Policy = Policy(),  # noqa: B008  a value
        prologue: Callable[[AsyncEnvironment], Awaitable[None]] | None = None,
        autopsy: Callable[[AsyncEnvironment], Awaitable[None]] | None = None,
    ) -> AsyncEnvironment:
        """Build everything in a plan; on any failure what was built is destroyed.

        :param subscribers: are told what becomes known of the links.
        :param policy: what builds of images may do.
        :param prologue: is called when there are networks, and no machines yet.
        :param autopsy: looks at what a failure left, before it is destroyed.
        :raises HostError: this host lacks something; nothing was created.
        :raises CreationError: with the first cause; what waited for it is not told of.
        """
        reporter = reporter or Silent()
        begin = time.monotonic()
        problems = check(plan, providers)
        if problems:
            raise HostError(problems)
        try:
            folder, fabric = await run.environment(
                name,
                sketch(plan),
                unprivileged=not privilege.is_privileged(),
            )
        except FabricError as error:
            if error.errno not in (errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EACCES):
                raise
            if error.errno == errno.ENOSPC and (full := places.lack_of_space()):
                raise StateError(full) from error
            raise HostError([privilege.refused(str(error))]) from error
        environment = cls(
            name=name,
            run=run,
            plan=plan,
            providers=providers,
            portal=portal,
            reporter=reporter,
            folder=folder,
            fabric=fabric,
            subscribers=subscribers,
            policy=policy,
        )
        environment.tell("", "start", f"{len(plan.machines)} machines")
        try:
            await environment._networks()
            if prologue is not None:
                await prologue(environment)
            await environment._create_all(list(plan.machines))
            await environment.resolutions.settle()
        except BaseException as error:
            if autopsy is not None and isinstance(error, Exception):
                with contextlib.suppress(Exception):
                    await autopsy(environment)
            await asyncio.shield(environment.close())
            environment.tell("", "failed", "destroyed", begin)
            raise
        environment.tell("", "done", f"{len(plan.machines)} machines", begin)
        return environment

    async def _networks(self) -> None:
        await self.fabric.request(
            "networks",
            networks=[
                {"bridge": network.bridge, "mtu": network.mtu, "kind": network.kind}
                for network in self.plan.networks.values()
                if network.kind in ("bridged", "point-to-point")
            ],
        )

    async def _create_all(self, names: Sequence[str]) -> None:
        ready = {name: asyncio.Event() for name in names}
        failed: set[str] = set()

        async def create(name: str) -> None:
            planned = self.plan.machines[name]
            for earlier in planned.after:
                if earlier in ready:
                    await ready[earlier].wait()
                    if earlier in failed:
                        failed.add(name)
                        ready[name].set()
                        return
            try:
                self.machines[name] = await self._create(planned)
            except BaseException:
                failed.add(name)
                raise
            finally:
                ready[name].set()

        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(create(name))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _give_image(self, planned: PlannedMachine, provider: Provider) -> None:
        """Have a machine's image built, and its provider have it."""
        image = planned.image
        if image is None or not isinstance(provider, StartsFromImages):
            return
        if image.key not in self._images:
            from pytest_carthage.images.builder import ensure

            self._images[image.key] = asyncio.create_task(
                ensure(
                    image,
                    portal=self.portal,
                    note=lambda who, text: self.tell(who, "note", text),
                    policy=self.policy,
                )
            )
        await provider.take_image(await self._images[image.key])

    async def _create(self, planned: PlannedMachine) -> AsyncMachine:
        begin = time.monotonic()
        self.tell(planned.name, "start", planned.target)
        try:
            provider = self._providers[planned.target]
            await self._give_image(planned, provider)
            # an image is told of by itself
            begin = time.monotonic()
            means = await provider.create(planned, self._context())
            machine = self._machine(planned, means)
            try:
                await machine.ask_for_addresses()
                self.resolutions.look(machine)
                await self.welcome.arrive(machine)
                await self._do_tasks(machine)
                await machine.wait_until_ready()
                await self.welcome.open(machine)
            except BaseException:
                await asyncio.shield(machine.give_addresses_back())
                raise
        except CarthageError as error:
            self.resolutions.forget(planned.name)
            self.tell(planned.name, "failed", str(error).splitlines()[0], begin)
            if isinstance(error, CreationError):
                raise
            raise CreationError(str(error)) from error
        self.tell(planned.name, "done", planned.target, begin)
        return machine

    async def _do_tasks(self, machine: AsyncMachine) -> None:
        """Do the tasks of a machine's roles; what its image has is not done again."""
        for role in machine.planned.roles:
            is_in_image = role.key in machine.planned.built_roles
            for task in role.tasks():
                if task.kind == "filesystem" and is_in_image:
                    continue
                if task.network:
                    raise CreationError(
                        f"machine {machine.name!r} of layout {self.plan.layout!r}: task "
                        f"{task.title!r} of role {type(role).__name__} ({task.place}) wants the "
                        "network, and machines are sealed; try: the role in the machine's image, "
                        "as in image.with_(...)"
                    )
                try:
                    await machine.perform(task, role)
                except (CarthageError, OSError) as error:
                    raise CreationError(
                        f"machine {machine.name!r} of layout {self.plan.layout!r}: task "
                        f"{task.title!r} of role {type(role).__name__} ({task.place}): {error}"
                    ) from error

    async def place(self, planned: PlannedMachine, kind: str) -> Mapping[str, Any]:
        """Have the fabric make a network for what is planned, see :class:`.provider.Context`."""
        spec = _spec(planned, kind, self.logs, self.name)
        if self._has_twins:
            spec["hosts"] = self.plan.hosts_file(planned.networks)
        return await self._batches.place(spec)

    def _context(self) -> Context:
        async def open_channel(machine: str) -> Channel:
            who = f"machine {machine!r} of layout {self.plan.layout!r}"
            opened = await channel.connect(str(self.socket), who, machine)
            self._channels.append(opened)
            return opened

        return Context(
            run=self.run.name,
            environment=self.name,
            plan=self.plan,
            fabric=self.fabric,
            place=self.place,
            channel=open_channel,
            folder=self.folder,
            logs=self.logs,
            intend=self.run.intend,
            note=lambda who, text: self.tell(who, "note", text),
        )

    def _machine(self, planned: PlannedMachine, means: Means) -> AsyncMachine:
        return AsyncMachine(
            planned, means, log=self.logs / f"{planned.name}.log", surroundings=self
        )

    # living

    def tell(self, subject: str, kind: Kind, text: str = "", begin: float | None = None) -> None:
        """Report an event; ``begin`` (monotonic) gives its duration."""
        self.reporter.event(
            Event(
                at_s=time.time(),
                environment=self.name,
                subject=subject,
                kind=kind,
                text=text,
                duration_s=None if begin is None else time.monotonic() - begin,
            )
        )

    def handle(self, name: str) -> AsyncMachine:
        """The handle of a machine.

        :raises KeyError: there is none of this name.
        """
        return self.machines[name]

    def handles(self) -> Sequence[AsyncMachine]:
        """Handles of all machines, in the order of the plan."""
        return [self.machines[name] for name in self.plan.machines if name in self.machines]

    @on_core
    async def add(self, name: str, machine: Machine) -> AsyncMachine:
        """Create one more machine; the others learn its name.

        :raises LayoutError: it does not fit into the layout.
        :raises CreationError: it could not be created; the rest lives on.
        """
        self.plan, planned = extend_plan(self.plan, name, machine)
        problems = self._providers[planned.target].check(self.plan)
        try:
            if problems:
                raise HostError(problems)
            if planned.asks_dhcp:  # the server has to know what it is to lend
                await self._refresh_roles()
            self.machines[name] = await self._create(planned)
        except BaseException:
            self.plan = reduce_plan(self.plan, name)
            await asyncio.shield(self._destroy(planned))
            if planned.asks_dhcp:
                await asyncio.shield(self._refresh_roles())
            raise
        await self._announce()
        await self.resolutions.settle()
        return self.machines[name]

    @on_core
    async def remove(self, name: str) -> None:
        """Destroy one machine.

        :raises KeyError: there is none of this name.
        """
        await self._close_gates(name)
        machine = self.machines.pop(name)
        self.plan = reduce_plan(self.plan, name)
        self.resolutions.forget(name)
        await machine.give_addresses_back()
        await self._destroy(machine.planned)
        await self._announce()

    async def _destroy(self, planned: PlannedMachine) -> None:
        from pytest_carthage.provider import Identity

        self.welcome.leave(planned.name)
        identity = Identity(
            kind=planned.target, run=self.run.name, environment=self.name, name=planned.name
        )
        await self._providers[planned.target].destroy(identity)
        await self.fabric.request("remove", machine=planned.name)

    async def _announce(self) -> None:
        """Tell all machines who there is, and keep it on disk."""
        common = self.plan.hosts_file(())
        await self.fabric.request("hosts", text=common)

        def hosts(networks: Collection[str]) -> str:
            return self.plan.hosts_file(networks) if self._has_twins else common

        for name, station in self.stations.items():
            station.tell_hosts(hosts([name]))

        async def write(machine: AsyncMachine) -> None:
            with contextlib.suppress(FabricError, OSError):  # stopped: learns when it starts
                await machine.write_names(hosts(machine.planned.networks))

        await asyncio.gather(*(write(machine) for machine in self.handles()))
        await self._refresh_roles()
        await self.run.describe(self.name, sketch(self.plan))

    async def _refresh_roles(self) -> None:
        """Have the services of machines know who there is."""

        async def refresh(machine: AsyncMachine) -> None:
            with contextlib.suppress(FabricError, OSError):  # stopped: learns when it starts
                for role in machine.planned.roles:
                    await role.refresh(machine)

        await asyncio.gather(*(refresh(machine) for machine in self.handles()))

    @on_core
    async def ansible(self, /, playbook: str | Path, **options: Any) -> Any:
        """Run a playbook against the machines, see :func:`~.access.ansible.run_playbook`."""
        from pytest_carthage.access.ansible import run_playbook

        return await run_playbook(self, playbook, **options)

    # faults, gates and captures: each is imported when it is first asked for

    def partition(self, *groups: Group) -> Opening[AsyncDisturbance]:
        """Cut the machines of each group off from those of the others."""
        from pytest_carthage.access.disturbance import partition

        return partition(self, *groups)

    def gate(self, machine: str, *, to: str, for_s: float) -> Opening[AsyncGate]:
        """Open a gate in a machine, to one port of one host outside."""
        from pytest_carthage.access.gate import open_gate

        return open_gate(self, machine, to=to, for_s=for_s)

    def capture(self, network: str, filter: str = "") -> Opening[AsyncCapture]:
        """Capture what is sent on a network."""
        from pytest_carthage.access.capture import capture_network

        return capture_network(self, network, filter)

    @on_core
    async def assert_sealed(self, *, timeout_s: float = 30.0) -> SealReport:
        """Prove by observation that nothing leaves the layout and nothing enters."""
        from pytest_carthage.access.sealing import assert_sealed

        return await assert_sealed(self, timeout_s=timeout_s)

    async def neighbours(self) -> Sequence[Neighbour]:
        """All other live environments of this user, whichever process has built them."""
        from pytest_carthage.access.sealing import Neighbour
        from pytest_carthage.state.run import list_environments

        found = []
        for listed in await asyncio.to_thread(list_environments):
            if listed.name == self.name and listed.run == self.run.name:
                continue
            links = [link for machine in listed.machines.values() for link in machine["links"]]
            found.append(
                Neighbour(
                    name=listed.name,
                    socket=listed.socket,
                    addresses=[
                        address.partition("/")[0] for link in links for address in link["addresses"]
                    ],
                    macs=frozenset(link["mac"] for link in links),
                )
            )
        return found

    @on_core
    async def station(self, network: str) -> Station:
        """A place on a network for a program of the host, made when first asked for."""
        from pytest_carthage.access.inside import make_station

        return await make_station(self, network)

    def span(self, other: AsyncEnvironment, network: str) -> Opening[AsyncSpan]:
        """Make one network of this network and the other environment's of the same name."""
        from pytest_carthage.access.span import span

        return span(self, other, network)

    # the end

    async def keep(self, *, for_s: float | None) -> None:
        """Have everything stay when this process ends, except for what it holds open itself."""
        await self._close_gates()
        if self.recording is not None:
            from pytest_carthage.access.recording import FILE

            await self.recording.write(self.folder / FILE)
        await self.run.keep(self.name, for_s=for_s)

    async def close(self) -> None:
        """Destroy everything; what was destroyed already is not an error."""
        if self.closed:
            return
        self.closed = True
        begin = time.monotonic()
        self.tell("", "start", "teardown")
        for task in self._images.values():
            task.cancel()
        await asyncio.gather(*self._images.values(), return_exceptions=True)
        try:
            await self._close_gates()
            await self.run.destroy(self.name)
        finally:
            self.detach()
        self.tell("", "done", "teardown", begin)

    async def _close_gates(self, machine: str | None = None) -> None:
        """Close the gates of a machine, or all."""
        for gate in self.gates:
            if machine in (None, gate.machine):
                await gate.aclose("end")

    def detach(self) -> None:
        """Close this process's connections to the machines, which stay as they are."""
        self.closed = True
        self.resolutions.close()
        for station in self.stations.values():
            station.close()
        for capture in list(self.captures):
            capture.stop()
        if self.recording is not None:
            self.recording.close()
        for opened in self._channels:
            opened.close()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first cause in a group: an error before a cancellation or what was blocked by it."""
    flat: list[BaseException] = []

    def walk(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                walk(inner)
        else:
            flat.append(error)

    walk(errors)
    for error in flat:
        if not isinstance(error, (asyncio.CancelledError, BlockedError)):
            return error
    return flat[0]


class Environment:
    """One live layout for synchronous callers; :attr:`aio` is the same as awaitables."""

    def __init__(self, aio: AsyncEnvironment) -> None:
        self.aio = aio
        self._handles: dict[str, MachineHandle] = {}

    @property
    def name(self) -> str:
        """Name of the environment, as ``pytest-carthage ls`` shows it."""
        return self.aio.name

    @property
    def folder(self) -> Path:
        """Its private folder, removed with it."""
        return self.aio.folder

    @property
    def plan(self) -> Plan:
        """The plan as it is now, added machines included."""
        return self.aio.plan

    def handle(self, name: str) -> MachineHandle:
        """The handle of a machine.

        :raises KeyError: there is none of this name.
        """
        machine = self.aio.handle(name)
        handle = self._handles.get(name)
        if handle is None or handle.aio is not machine:
            handle = self._handles[name] = MachineHandle(machine)
        return handle

    def handles(self) -> Sequence[MachineHandle]:
        """Handles of all machines, in the order of the plan."""
        return [self.handle(machine.name) for machine in self.aio.handles()]

    def add(self, name: str, machine: Machine) -> MachineHandle:
        """Create one more machine."""
        self._add(name, machine)
        return self.handle(name)

    _add = bridged(AsyncEnvironment.add)
    remove = bridged(AsyncEnvironment.remove)
    ansible = bridged(AsyncEnvironment.ansible)
    assert_sealed = bridged(AsyncEnvironment.assert_sealed)

    def partition(self, *groups: Group) -> Disturbance:
        """Cut the machines of each group off from those of the others, until it heals."""
        from pytest_carthage.access.disturbance import Disturbance

        return Disturbance.of(self.aio.partition(*groups), self.aio)

    def gate(self, machine: str, *, to: str, for_s: float) -> Gate:
        """A gate in a machine, to one port of one host outside, while the block runs."""
        from pytest_carthage.access.gate import Gate

        return Gate.of(self.aio.gate(machine, to=to, for_s=for_s), self.aio)

    def capture(self, network: str, filter: str = "") -> Capture:
        """What is sent on a network while the block runs."""
        from pytest_carthage.access.capture import Capture

        return Capture.of(self.aio.capture(network, filter), self.aio)

    def inside(self, network: str) -> Inside:
        """Take this thread into a network while the block runs."""
        from pytest_carthage.access.inside import Inside

        return Inside(self.aio, network)

    def span(self, other: Environment, network: str) -> Span:
        """Make one network of this network and the other environment's of the same name."""
        from pytest_carthage.access.span import Span

        return Span.of(self.aio.span(other.aio, network), self.aio)

    keep = bridged(AsyncEnvironment.keep)
    close = bridged(AsyncEnvironment.close)
