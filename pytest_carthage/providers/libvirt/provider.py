"""The ``libvirt`` target: a machine is a virtual machine, on taps of the fabric."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_carthage.channels import consoles
from pytest_carthage.channels.far.deputy import deputy_by_stream
from pytest_carthage.errors import CarthageError, CreationError, FabricError, HostError, Problem
from pytest_carthage.model.vm import Vm
from pytest_carthage.provider import Channel, Context, Identity, Traits, View
from pytest_carthage.providers.libvirt import admission, clones, disks, host, recipes, ways
from pytest_carthage.providers.libvirt.apart import MACHINES
from pytest_carthage.providers.libvirt.binding import Refused
from pytest_carthage.providers.libvirt.defining import define, remove, validate
from pytest_carthage.providers.libvirt.domain import SCREEN, Booting, Hardware, Places, domain_xml
from pytest_carthage.providers.libvirt.machine import LibvirtMachine, subject
from pytest_carthage.providers.libvirt.memory import backed
from pytest_carthage.providers.libvirt.recipes import Recipe
from pytest_carthage.providers.libvirt.remote import provider as remotes
from pytest_carthage.providers.libvirt.service import Service
from pytest_carthage.store import disk
from pytest_carthage.work import space

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.providers.libvirt.ways import Entry
    from pytest_carthage.store.built import Built

__all__ = ["LibvirtProvider"]


class LibvirtProvider:
    """Machines from images, as virtual machines."""

    kind = "libvirt"
    traits = Traits(
        root="image",
        init=True,
        outside=False,
        needs="disk",
        settings=Vm,
        lacks=frozenset({"limits", "socket"}),
    )

    def __init__(self) -> None:
        #: by the fabric that a libvirtd lives in: names of environments come again
        self._services: dict[Channel, Service] = {}
        #: images to start machines from, by the keys of their declarations
        self._built: dict[str, Built] = {}
        #: keys of recipes the memory of which could not be kept
        self._unkept: set[str] = set()
        self._starting = asyncio.Lock()
        #: of machines with ``uri=``
        self._remotes = remotes.Remotes()

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        """List what this host lacks, memory for the machines of a plan included."""
        if plan is None:
            return host.check(tpm=True, uefi=True, screens=True)
        machines = {
            machine.name: vm_of(machine)
            for machine in plan.machines.values()
            if machine.target == self.kind
        }
        theirs = {name: vm for name, vm in machines.items() if vm.uri is not None}
        problems = remotes.check(theirs)
        if machines and len(theirs) == len(machines):
            return problems
        machines = {name: vm for name, vm in machines.items() if name not in theirs}
        problems += host.check(
            tpm=any(vm.tpm for vm in machines.values()),
            uefi=any(vm.firmware == "uefi" for vm in machines.values()),
        )
        if lacking := self._lack_of_memory(plan.layout, machines):
            problems.append(lacking)
        return [*problems, *_not_yet(machines)]

    def describe(self) -> str:
        """Whether their processors are emulated, and why."""
        return str(host.acceleration())

    def _lack_of_memory(self, layout: str, machines: Mapping[str, Vm]) -> Problem | None:
        """What memory lacks for those of a plan that have not been promised it."""
        shares = admission.shares()
        # of environments that live here, to which machines are added one by one
        own = {service.environment for service in self._services.values()}
        promised = {
            name
            for share in shares
            if share.folder in own and share.layout == layout
            for name in share.machines
        }
        wanted = {name: vm.memory_mib for name, vm in machines.items() if name not in promised}
        return admission.lack(wanted, shares)

    async def take_image(self, built: Built) -> None:
        """Take an image to start machines from."""
        self._built[built.image.key] = built

    async def prepare(self, context: Context) -> None:
        """Start the libvirtd of an environment, in its fabric, and look at those of other hosts.

        :raises HostError: it does not start here, or another one lacks something.
        """
        machines = [each for each in context.plan.machines.values() if each.target == self.kind]
        theirs = {each.name: vm_of(each) for each in machines if vm_of(each).uri is not None}
        await self._remotes.prepare(context, theirs)
        if not theirs or len(theirs) < len(machines):
            await self._own(context)

    async def _own(self, context: Context) -> Service:
        """The libvirtd of an environment, started where no machine had needed it.

        :raises HostError: it does not start here.
        """
        async with self._starting:
            service = self._services.get(context.fabric)
            return service if service is not None else await self._start(context)

    async def _start(self, context: Context) -> Service:
        """Start the libvirtd of an environment, in its fabric.

        :raises HostError: it does not start here.
        """
        service = _service(context)
        try:
            if not service.was_begun:  # else by who has built the environment
                await service.start()
            machines = [m for m in context.plan.machines.values() if m.target == self.kind]
            await _admit(context, [m for m in machines if vm_of(m).uri is None])
            await self._validate(context, service)
        except BaseException:
            await service.close()  # it goes on, for whoever prepares the environment then
            raise
        self._services[context.fabric] = service
        context.note("", f"virtual machines: {host.acceleration()}")
        return service

    async def _validate(self, context: Context, service: Service) -> None:
        """Have libvirt look at what authors have chosen of it, before any machine is made.

        :raises CreationError: it rejects something, with its words.
        """
        for planned in context.plan.machines.values():
            chosen = _chosen(vm_of(planned)) if planned.target == self.kind else ""
            if not chosen:
                continue
            if vm_of(planned).uri is not None:  # it is looked at there
                continue
            try:
                xml = _xml(
                    # one that stands may have its name
                    replace(planned, name=f"{planned.name}-{secrets.token_hex(4)}"),
                    context,
                    Booting(kernel=Path("/dev/null")),
                    places_of(planned, context),
                )
                await service.call(partial(validate, xml=xml))
            except (ValueError, Refused) as error:
                raise CreationError(
                    f"{subject(planned, context)}: libvirt rejects its domain, which has {chosen}: "
                    f"{error}; try: https://libvirt.org/formatdomain.html"
                ) from error

    async def end(self, context: Context) -> None:
        """Let go of the libvirtd, which ends with the fabric."""
        await self._remotes.end(context)
        service = self._services.pop(context.fabric, None)
        if service is not None:
            await service.close()

    async def create(self, planned: PlannedMachine, context: Context) -> LibvirtMachine:
        """Define and start a domain, and wait until its agent answers.

        :raises CreationError: with libvirt's words, or the last lines of its console.
        """
        who = subject(planned, context)
        if planned.image is None:
            raise CreationError(f"{who}: no image; try: image=Image.debian(...)")
        vm, places = vm_of(planned), places_of(planned, context)
        if vm.uri is not None:
            built = self._built[planned.image.key]
            return await self._remotes.create(planned, vm, context, built, places)
        identity = context.identity.with_detail(folder=str(context.folder))
        await context.intend(identity)
        service = await self._own(context)
        built = self._built[planned.image.key]
        try:
            await _admit(context, [planned])
            made = await disks.make(
                built,
                planned,
                vm,
                places,
                plan=context.plan,
                entry_of=lambda base: ways.entry_of(
                    planned, vm, built, base, context, service.folder
                ),
                note=lambda text: context.note(planned.name, text),
            )
            await service.hold(made.base.folder)
            await context.place(planned, "tap")

            def domain(places: Places, words: str = "") -> str:
                append = f"{made.booting.append} {words}".strip()
                booting = replace(made.booting, append=append)
                xml = _xml(planned, context, booting, places, made.entry)
                return xml if vm.xml is not None else backed(xml, vm.memory_mib)

            await service.call(partial(define, xml=domain(places)))
        except (OSError, ValueError, CreationError, FabricError, Refused, HostError) as error:
            full = space.of_state(error, context.folder)
            raise CreationError(f"{who}: {error}{full}") from error
        machine = self._machine(planned, context, service, identity, places, made.entry)
        recipe = Recipe(
            built=built,
            base=made.base,
            planned=replace(made.completed, ready_timeout_s=machine.ready_limit_s),
            plan=context.plan,
            vm=vm,
            domain=domain,
            has_agent=made.entry.has_agent,
        )
        if not await self._cloned(machine, recipe, places, context, service):
            await machine.start()
        await service.keep_probes()
        return machine

    async def _cloned(
        self,
        machine: LibvirtMachine,
        recipe: Recipe,
        places: Places,
        context: Context,
        service: Service,
    ) -> bool:
        """Start a machine as a clone; False: it has to boot, and why is told."""
        name = recipe.planned.name
        if recipes.why_not(recipe) or recipe.key in self._unkept:
            return False

        def tell(error: Exception) -> None:
            context.note(name, f"boots, since it cannot be a clone: {str(error).splitlines()[0]}")

        def reach(agent: Path) -> Awaitable[Channel]:
            return context.deputy(name, deputy_by_stream(unix=str(agent)))

        try:
            memory = await clones.ensure_memory(
                recipe,
                service,
                emulator=host.emulator() or "qemu",
                folder=places.folder.parent,
                channel=reach,
                note=lambda text: context.note(name, text),
            )
            for folder in memory.held:
                await service.hold(folder)
        except (CarthageError, OSError, ValueError) as error:
            self._unkept.add(recipe.key)  # nor can others of its recipe
            tell(error)
            return False
        try:
            await asyncio.to_thread(disks.new_disk, places.disk, above=memory.disk)
            await machine.start_as_clone(memory)
        except (CreationError, OSError) as error:
            tell(error)
            await asyncio.to_thread(disks.new_disk, places.disk, above=recipe.base)
            return False
        return True

    async def take_up(
        self, planned: PlannedMachine, context: Context, *, runs: bool
    ) -> LibvirtMachine:
        """Connect to a machine that stands."""
        vm, places = vm_of(planned), places_of(planned, context)
        if vm.uri is not None:
            return await self._remotes.take_up(planned, vm, context, places, runs=runs)
        service = self._services.get(context.fabric)
        if service is None:
            service = self._services[context.fabric] = _service(context)
        identity = context.identity.with_detail(folder=str(context.folder))
        entry = await asyncio.to_thread(ways.read_entry, places)
        machine = self._machine(planned, context, service, identity, places, entry)
        if runs:
            await machine.take_up()
        return machine

    def _machine(
        self,
        planned: PlannedMachine,
        context: Context,
        service: Service,
        identity: Identity,
        places: Places,
        entry: Entry,
    ) -> LibvirtMachine:
        return LibvirtMachine(
            identity=identity,
            planned=planned,
            context=context,
            service=service,
            places=places,
            entry=entry,
            is_emulated=host.acceleration().kind != "kvm",
            has_screen=vm_of(planned).graphics,
            has_snapshots=vm_of(planned).firmware == "bios",
        )

    def view(self, folder: Path, machine: str) -> View | None:
        """Where the screen of a machine is; None: it has none, or is off.

        :raises FabricError: it is another host's, which is told with how to look at it.
        """
        remotes.refuse_view(folder / "vm" / machine, machine)
        socket = folder / "vm" / machine / SCREEN
        if not socket.exists():
            return None
        return View(socket=socket, uri=Service(folder).uri, domain=machine)

    async def destroy(self, identity: Identity) -> None:
        """Remove the domain through its environment's libvirtd, where there still is one."""
        detail = dict(identity.detail)
        folder = detail.get("folder")
        if folder is None:  # it was not begun
            return
        if "uri" in detail:
            await self._remotes.destroy(identity)
            return
        service = next(
            (one for one in self._services.values() if one.environment == Path(folder)), None
        )
        is_ours = service is None
        if service is None:
            service = Service(Path(folder))
        try:
            if service.was_begun and not (is_ours and service.has_ended):
                await service.call(partial(remove, name=identity.name))
        except Refused as refused:
            if not refused.is_gone:  # else all have ended with it, and with the fabric
                raise
        finally:
            if is_ours:
                await service.close()
        await asyncio.to_thread(admission.release, Path(folder), identity.name)
        await consoles.forget(Path(folder), identity.name)
        await asyncio.to_thread(disk.delete, Path(folder) / "vm" / identity.name)

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """None: nothing of it outlives its fabric."""
        return ()


async def _admit(context: Context, machines: Sequence[PlannedMachine]) -> None:
    """Have memory of this host promised to machines, those that have it already left out.

    :raises HostError: there is not enough, with what others have.
    """
    wanted = {machine.name: vm_of(machine).memory_mib for machine in machines}
    lacking = await asyncio.to_thread(admission.admit, context.folder, context.plan.layout, wanted)
    if lacking is not None:
        raise HostError([lacking])


def vm_of(planned: PlannedMachine) -> Vm:
    """What a machine tells this target."""
    return cast("Vm", planned.on) if planned.on is not None else Vm()


def _chosen(vm: Vm) -> str:
    """What of a machine libvirt or this host's QEMU may not have; empty: nothing."""
    chosen = [
        f"{name}={value!r}"
        for name in ("machine", "firmware")
        if (value := getattr(vm, name)) not in (None, "bios")
    ]
    return ", ".join([*chosen, *(["tpm=True"] if vm.tpm else []), *(["xml=..."] if vm.xml else [])])


def places_of(planned: PlannedMachine, context: Context) -> Places:
    """Where the files of a machine are."""
    return Places(
        folder=context.folder / "vm" / planned.name,
        short=f"{MACHINES}/{planned.name}",
        log=context.logs / f"{planned.name}.log",
    )


def _xml(
    planned: PlannedMachine,
    context: Context,
    booting: Booting,
    places: Places,
    entry: Entry | None = None,
) -> str:
    """What libvirt is told of a machine.

    :param entry: the ways into it; None: they are not known yet.
    :raises ValueError: its own XML is none.
    """
    return domain_xml(
        planned,
        vm_of(planned),
        identity=context.identity,
        places=places,
        booting=booting,
        hardware=Hardware(acceleration=host.acceleration(), emulator=host.emulator() or "qemu"),
        asks_guest_agent=entry is not None and "guest-agent" in entry.kinds,
    )


def _service(context: Context) -> Service:
    return Service(context.folder, context.fabric, note=lambda text: context.note("", text))


def _not_yet(machines: Mapping[str, Vm]) -> list[Problem]:
    """What machines ask for that is declared, and not made here."""
    problems = []
    for name, vm in machines.items():
        if vm.way == "ssh" and (lacking := ways.missing()):
            problems.append(
                Problem(
                    who="libvirt",
                    what=f"machine {name!r} is to be asked by ssh, and {lacking}",
                    remedy="python3 -m pip install 'pytest-carthage[ssh]'",
                    extra="ssh",
                    is_own=True,
                )
            )
    return problems
