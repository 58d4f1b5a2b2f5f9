"""How machines of other hosts' libvirts are made, taken up and destroyed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels import consoles
from pytest_carthage.errors import CarthageError, CreationError, FabricError, HostError, Problem
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.placing.cards import cards
from pytest_carthage.providers.libvirt import admission, disks, host, packages
from pytest_carthage.providers.libvirt.binding import Refused
from pytest_carthage.providers.libvirt.defining import define, remove
from pytest_carthage.providers.libvirt.domain import uuid_of
from pytest_carthage.providers.libvirt.machine import subject
from pytest_carthage.providers.libvirt.remote import volumes
from pytest_carthage.providers.libvirt.remote.deputy import deputy_of_domain
from pytest_carthage.providers.libvirt.remote.domain import cable_ports, remote_xml
from pytest_carthage.providers.libvirt.remote.machine import RemoteEntry, RemoteMachine
from pytest_carthage.providers.libvirt.remote.service import RemoteService
from pytest_carthage.providers.libvirt.remote.uri import LibvirtUri
from pytest_carthage.providers.libvirt.ways import entry_of, read_entry
from pytest_carthage.store import disk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.images.exports.disks.values import BootDisk
    from pytest_carthage.model.vm import Vm
    from pytest_carthage.planning.plan import PlannedMachine
    from pytest_carthage.provider import Context, Identity
    from pytest_carthage.providers.libvirt.domain import Places
    from pytest_carthage.providers.libvirt.ways import Entry
    from pytest_carthage.store.built import Built

__all__ = ["Remotes", "check", "refuse_view"]

#: where cables end on another host: below what kernels give to who asks for any port
_PORTS = range(20000, 32768)
_DRAWS = 3
#: file in a machine's folder that tells where its screen is
_SCREEN = "screen.json"
#: what qemu-img may take for a whole disk
_CONVERT_S = 600.0


def check(machines: Mapping[str, Vm]) -> list[Problem]:
    """List what is wrong with machines of other hosts, as far as it is seen from here."""
    problems = packages.missing_for_others("libvirt") if machines else []
    for name, vm in machines.items():
        try:
            address = LibvirtUri.of(vm.uri or "")
        except ValueError as error:
            what, _, remedy = str(error).partition("; try: ")
            problems.append(host.problem(f"machine {name!r}: uri={vm.uri!r}: {what}", remedy))
            continue
        if address.ssh and shutil.which(address.ssh[0]) is None:
            problems.append(
                host.problem(
                    f"no {address.ssh[0]}, which reaches {vm.uri}",
                    "apt-get install openssh-client",
                )
            )
        if vm.way not in (None, "agent"):
            problems.append(
                host.problem(
                    f"machine {name!r} of the libvirt at {vm.uri} is to be reached by "
                    f"way={vm.way!r}, and such machines are only reached by the agent",
                    "leave way= out, with Python in the image",
                )
            )
    return problems


def refuse_view(folder: Path, machine: str) -> None:
    """Say where the screen of another host's machine is looked at; nothing of any other one's.

    :param folder: of the machine.
    :raises FabricError: it has one.
    """
    try:
        record = json.loads((folder / _SCREEN).read_text())
    except FileNotFoundError:
        return
    uri, domain = record["uri"], record["domain"]
    raise FabricError(
        f"machine {machine!r} runs on another host, and its screen is there, and not served here; "
        f"try: {shlex.join(['virt-viewer', '--connect', uri, domain])}, or screenshot() in a test"
    )


class Remotes:
    """Libvirts of other hosts, and machines of theirs."""

    def __init__(self) -> None:
        #: by the fabric of who uses it, and its URI
        self._services: dict[tuple[Channel, str], RemoteService] = {}

    async def prepare(self, context: Context, machines: Mapping[str, Vm]) -> None:
        """Look at what their hosts have, before anything is made there.

        :raises HostError: a host is not reached, or lacks something.
        """
        uris: dict[str, dict[str, Vm]] = {}
        for name, vm in machines.items():
            uris.setdefault(str(vm.uri), {})[name] = vm
        for uri, theirs in uris.items():
            service = self._service(uri, context)
            try:
                for pool in {vm.pool for vm in theirs.values()}:
                    found, _ = await service.look(pool)
            except CarthageError as error:
                what, _, remedy = str(error).partition("; try: ")
                remedy = remedy or f"virsh --connect '{uri}' list"
                raise HostError([host.problem(what, remedy)]) from error
            wanted = {name: vm.memory_mib for name, vm in theirs.items()}
            if (lack := admission.lack(wanted, (), found.available_mib)) is not None:
                raise HostError([host.problem(f"libvirt {uri}: {lack.what} there", lack.remedy)])
            if why := found.hardware.acceleration.why:
                context.note("", f"virtual machines at {uri} are emulated: {why}")

    def _service(self, uri: str, context: Context) -> RemoteService:
        key = context.fabric, uri
        if key not in self._services:
            name = hashlib.sha256(uri.encode()).hexdigest()[:12]
            folder = context.folder / f"far-{name}"
            self._services[key] = RemoteService(
                uri, folder, fabric=context.fabric, environment=context.folder
            )
        return self._services[key]

    async def end(self, context: Context) -> None:
        """Let go of them."""
        for key in [key for key in self._services if key[0] is context.fabric]:
            await self._services.pop(key).close()

    async def create(
        self, planned: PlannedMachine, vm: Vm, context: Context, built: Built, places: Places
    ) -> RemoteMachine:
        """Upload its disks, define and start its domain, and wait until its agent answers.

        :raises CreationError: with libvirt's words, or the last lines of its console.
        """
        who = subject(planned, context)
        service = self._service(str(vm.uri), context)

        async def by_agent(base: BootDisk) -> Entry:
            asked = replace(vm, way="agent")
            return await entry_of(planned, asked, built, base, context, places.folder)

        try:
            found, pool = await service.look(vm.pool)
            places.folder.parent.mkdir(mode=0o700, exist_ok=True)
            made = await disks.make(
                built,
                planned,
                vm,
                places,
                plan=context.plan,
                entry_of=by_agent,
                note=lambda text: context.note(planned.name, text),
            )
            whole = places.folder / "whole.qcow2"
            await asyncio.to_thread(_flatten, places.disk, whole)
            named = {"disk": whole, "seed": places.seed, "kernel": made.booting.kernel}
            named["initrd"] = made.booting.initrd
            named |= {f"disk-{each.name}": places.further(each.name) for each in vm.disks}
            uuid = uuid_of(context.identity, planned.name)
            stem = f"carthage-{context.identity.environment}-{planned.name}-{uuid[:8]}"
            files = {f"{stem}.{name}": path for name, path in named.items() if path is not None}
            identity = replace(
                context.identity.with_detail(
                    folder=str(context.folder),
                    uri=str(vm.uri),
                    uuid=uuid,
                    pool=pool,
                    volumes=json.dumps(list(files)),
                ),
                outside=True,
            )
            await context.intend(identity)
            context.note(planned.name, f"its disks are sent to {vm.uri}")
            there: dict[str, str] = {}
            for name, path in files.items():
                there[str(path)] = await service.call(
                    partial(volumes.upload, pool=pool, name=name, path=path)
                )
            there[str(places.disk)] = there[str(whole)]
            await asyncio.to_thread(whole.unlink)
            await context.place(planned, "tap")
        except (OSError, ValueError, FabricError, Refused, HostError) as error:
            raise CreationError(f"{who}: {error}") from error

        async def announce() -> Mapping[str, int]:
            ports = dict(
                zip(
                    (card.port for card in cards(planned)),
                    random.sample(_PORTS, len(cards(planned))),
                    strict=True,
                )
            )
            xml = remote_xml(
                planned,
                vm,
                identity=context.identity,
                places=places,
                booting=made.booting,
                hardware=found.hardware,
                name=stem,
                files=there,
                ports=ports,
            )
            await service.call(partial(define, xml=xml))
            return ports

        context.note(planned.name, "boots, as all machines of another host do")
        for draw in range(_DRAWS):
            try:
                ports = await announce()
            except (ValueError, FabricError, Refused) as error:
                raise CreationError(f"{who}: {error}") from error
            is_emulated = found.hardware.acceleration.kind != "kvm"
            machine = self._machine(
                planned, vm, context, service, identity, places, stem, ports, is_emulated
            )
            try:
                await machine.start()
                break
            except CreationError as error:
                if "Address already in use" not in str(error) or draw == _DRAWS - 1:
                    raise
        return machine

    async def take_up(
        self, planned: PlannedMachine, vm: Vm, context: Context, places: Places, *, runs: bool
    ) -> RemoteMachine:
        """Connect to a machine that stands."""
        service = self._service(str(vm.uri), context)
        uuid = uuid_of(context.identity, planned.name)
        found, _ = await service.look(vm.pool)

        def steps(libvirt: Any, connection: Any) -> tuple[str, str]:
            domain = connection.lookupByUUIDString(uuid)
            return domain.name(), domain.XMLDesc()

        name, xml = await service.call(steps)
        machine = self._machine(
            *(planned, vm, context, service, context.identity, places, name),
            cable_ports(planned, xml),
            found.hardware.acceleration.kind != "kvm",
        )
        if runs:
            await machine.take_up()
        return machine

    def _machine(
        self,
        planned: PlannedMachine,
        vm: Vm,
        context: Context,
        service: RemoteService,
        identity: Identity,
        places: Places,
        domain: str,
        ports: Mapping[str, int],
        is_emulated: bool,
    ) -> RemoteMachine:
        if vm.graphics:
            record = {"uri": str(vm.uri), "domain": domain}
            (places.folder / _SCREEN).write_text(json.dumps(record))

        def way(env: Mapping[str, str]) -> Sequence[str]:
            return deputy_of_domain(
                uri=service.uri,
                uuid=uuid_of(identity, planned.name),
                folder=context.folder,
                machine=planned.name,
                serial=places.serial,
                ports=ports,
                env=env,
            )

        return RemoteMachine(
            identity=identity,
            planned=planned,
            context=context,
            service=service,
            places=places,
            entry=RemoteEntry(kinds=("agent",), env=read_entry(places).env, deputy=way),
            is_emulated=is_emulated,
            has_screen=vm.graphics,
            has_snapshots=vm.firmware == "bios",
            domain=domain,
        )

    async def destroy(self, identity: Identity) -> None:
        """Remove a domain and its volumes there, in whatever process.

        :raises FabricError: its libvirt is not reached, or refuses.
        """
        detail = dict(identity.detail)
        folder = Path(detail["folder"])
        with tempfile.TemporaryDirectory(prefix="carthage-far-") as temporary:
            service = RemoteService(detail["uri"], Path(temporary) / "far")
            try:
                await service.call(partial(remove, uuid=detail["uuid"]))
                await service.call(
                    partial(
                        volumes.remove, pool=detail["pool"], names=json.loads(detail["volumes"])
                    )
                )
            except Refused as refused:
                raise FabricError(
                    f"libvirt {detail['uri']}: machine {identity.name!r} is not removed there: "
                    f"{refused}"
                ) from refused
            finally:
                await service.close()
        await consoles.forget(folder, identity.name)
        await asyncio.to_thread(disk.delete, folder / "vm" / identity.name)


def _flatten(disk: Path, whole: Path) -> None:
    """Make one file of a disk and of those that it stands on.

    :raises OSError: it cannot be made, with what qemu-img printed.
    """
    done = subprocess.run(
        ["qemu-img", "convert", "-O", "qcow2", str(disk), str(whole)],
        env={"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=_CONVERT_S,
        check=False,
    )
    if done.returncode:
        raise OSError(f"{whole.name}: {done.stderr.strip()}")
