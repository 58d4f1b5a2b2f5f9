"""Which target realises a machine, and whether it can: by its traits, never by its name."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

from pytest_carthage.errors import LayoutError
from pytest_carthage.handles.capability import CAPABILITIES, Capability
from pytest_carthage.model.machine import Condition, Machine, restarted_twice
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.on import On
from pytest_carthage.model.role import several
from pytest_carthage.planning.traits import Root, Traits, traits_of
from pytest_carthage.planning.uses import OF_MACHINE, is_ruled_out, uses_of_machine

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import PlannedNetwork

__all__ = ["ASKS", "GROUP", "Targets", "choose", "default", "installed", "others"]

#: entry points by which distributions offer targets
GROUP = "pytest_carthage.providers"

#: name of a target to its traits
Targets = Mapping[str, Traits]

#: kind of condition to what a machine has to be asked for
ASKS: Mapping[str, Capability] = MappingProxyType(
    {
        "port": "listening",
        "file": "files",
        "log": "logs",
        "unit": "run",
        "command": "run",
        "asked": "run",
        "rebooted": "power",
        "exited": "power",
        "screen": "screen",
    }
)


@functools.cache
def installed() -> Targets:
    """The targets that installed distributions offer; one that cannot be loaded is warned of."""
    targets: dict[str, Traits] = {}
    for entry in entry_points(group=GROUP):
        try:
            make = entry.load()
            targets[entry.name] = traits_of(make if hasattr(make, "traits") else make())
        except Exception as error:
            warnings.warn(
                f"target {entry.name!r} cannot be used: {type(error).__name__}: {error}",
                stacklevel=2,
            )
    return MappingProxyType(targets)


def default(targets: Targets, root: Root) -> str | None:
    """The target of machines that choose none; None: there is none, or more than one."""
    named = [
        name
        for name, one in targets.items()
        if one.is_default and one.of(has_image=root == "image").root == root
    ]
    return named[0] if len(named) == 1 else None


def others(targets: Targets, capability: Capability, *, has_image: bool) -> str:
    """What an author can write where a target lacks something, as in ``on="..."``."""
    able = [
        name
        for name, traits in sorted(targets.items(), key=lambda pair: not pair[1].is_default)
        if traits.can(capability) and (traits.root != "image" or has_image)
    ]
    return " or ".join(f'on="{name}"' for name in able) or "a target that can"


def choose(
    layout: str,
    name: str,
    machine: Machine,
    *,
    wanted: str | None,
    targets: Targets,
    boots: bool = False,
    networks: Mapping[str, PlannedNetwork] = MappingProxyType({}),
) -> str:
    """The target that realises a machine.

    :param wanted: realises machines that do not choose.
    :param boots: its image boots an init.
    :param networks: interface to network.
    :raises LayoutError: it is unknown, or lacks something that the machine is declared with.
    """
    subject = f"machine {name!r} of layout {layout!r}"
    target = machine.target or wanted or default(targets, "image" if machine.image else "host")
    if target is None:
        raise Mistake(
            what="no target is chosen, and there is no default"
            f" for a machine {'with' if machine.image else 'without'} an image",
            remedy=f"on= one of {', '.join(sorted(targets)) or 'none that is installed'}",
            place=machine.place,
        ).error(subject)
    if target not in targets:
        raise Mistake(
            what=f"target {target!r} is unknown",
            remedy=f"one of {', '.join(sorted(targets))}",
            place=machine.place,
        ).error(subject)
    for mistake in _faults(target, machine, targets, networks, boots=boots):
        raise mistake.error(subject)
    return target


def _faults(
    target: str,
    machine: Machine,
    targets: Targets,
    networks: Mapping[str, PlannedNetwork],
    *,
    boots: bool,
) -> Iterator[Mistake]:
    """What the traits of a target do not allow a machine to have."""
    traits = targets[target].of(has_image=machine.image is not None)
    yield from _faults_of_settings(target, machine, traits)
    if traits.root == "image" and traits.needs == "disk":
        yield from _faults_of_own_kernel(target, machine)
    boots = machine.init == "systemd" or (boots and traits.root == "image")
    if boots and not traits.init:
        why = ": its machines share the host's file system" if traits.root == "host" else ""
        yield Mistake(
            what=f"target {target!r} cannot run systemd{why}",
            remedy=f"{_with(targets, 'init')} with an image, or leave init= out",
            place=machine.place,
        )
    if machine.restart != "no":
        yield from _faults_of_restart(target, machine, targets, boots=boots)
    if machine.privileges.arguments and not traits.privileges:
        able = [f'on="{name}"' for name, other in sorted(targets.items()) if other.privileges]
        yield Mistake(
            what=f"target {target!r} gives no rights over the host to machines, and the machine has"
            f" {' and '.join(machine.privileges.arguments)}",
            remedy=f"{' or '.join(able) or 'a target that can'}, or leave them out",
            place=machine.place,
        )
    if traits.root == "image" and machine.image is None:
        host = default(targets, "host")
        yield Mistake(
            what=f"target {target!r} needs an image, and the machine has none",
            remedy='Machine(Image.debian("bookworm"), ...)' + (f', or on="{host}"' if host else ""),
            place=machine.place,
        )
    if traits.root == "host":
        for role in machine.parts:
            for task in role.tasks("filesystem"):
                yield Mistake(
                    what=f"role {type(role).__name__} has a task of the file system"
                    f" ({task.title!r}), and on target {target!r} that is the host's own, which"
                    " stays as it is",
                    remedy=f"{_with(targets, 'image')} with an image,"
                    " or @machine_task for what can be done there",
                    place=machine.place,
                )
    external = {
        interface: f"network {one.name!r}, which is external ({one.external})"
        for interface, one in networks.items()
        if one.external is not None
    }
    if external and traits.root != "existing":
        interface, network = next(iter(external.items()))
        yield Mistake(
            what=f"interface {interface!r} is on {network}: machines of target {target!r} are made"
            " here, and cannot be there",
            remedy='on=Ssh("db1.lab") for a host that exists, or a link to another network, and'
            " a gate to the hosts outside",
            place=machine.links[interface].place,
        )
    for capability, use, place in (*_uses(machine, external), *_calls(machine, traits)):
        if not traits.can(capability):
            elsewhere = others(targets, capability, has_image=machine.image is not None)
            if traits.outside and capability == "links":
                elsewhere += ', or a link to a Network(..., external="where it is")'
            instead = traits.settings.instead.get(capability) if traits.settings else None
            yield Mistake(
                what=f"target {target!r} cannot {CAPABILITIES[capability]}, and {use}",
                remedy=f"{instead}; or {elsewhere}" if instead else elsewhere,
                place=place,
            )


def _faults_of_settings(target: str, machine: Machine, traits: Traits) -> Iterator[Mistake]:
    """What is wrong between a target and what a machine tells it."""
    takes = traits.settings
    if isinstance(machine.on, On):
        if takes is None or not isinstance(machine.on, takes):
            named = type(machine.on).__name__
            yield Mistake(
                what=f"target {target!r} takes no {named}",
                remedy=f'on="{target}"' if takes is None else f"on={takes.__name__}(...)",
                place=machine.on.place,
            )
    elif takes is not None and traits.needs_settings:
        yield Mistake(
            what=f"target {target!r} has to be told which machine it is",
            remedy=f"on={takes.__name__}(...)",
            place=machine.place,
        )


def _faults_of_own_kernel(target: str, machine: Machine) -> Iterator[Mistake]:
    """What a machine with a kernel of its own cannot have of links.

    Its cables are plugged in from outside, and it knows them by their hardware addresses.
    """
    macs: dict[str, str] = {}
    for interface, link in machine.links.items():
        if link.kind == "macvlan":
            yield Mistake(
                what=f"target {target!r} cannot give a machine the interface {interface!r} of kind"
                " 'macvlan': its cables end at its own kernel",
                remedy="leave kind= out",
                place=link.place,
            )
        if link.mac is None or link.kind not in ("bridged", "trunk", "bond"):
            continue
        other = macs.setdefault(link.mac, interface)
        if other != interface:
            yield Mistake(
                what=f"interfaces {other!r} and {interface!r} have the mac '{link.mac}' both, and"
                f" a machine of target {target!r} tells its cables apart by that",
                remedy="another one, or leave it out",
                place=link.place,
            )


def _faults_of_restart(
    target: str, machine: Machine, targets: Targets, *, boots: bool
) -> Iterator[Mistake]:
    """What keeps a target from starting a machine's main process again."""
    if not targets[target].restarts:
        able = [f'on="{name}"' for name, other in sorted(targets.items()) if other.restarts]
        yield Mistake(
            what=f"target {target!r} starts no main process again, and the machine has"
            f" restart={machine.restart!r}",
            remedy=f"{' or '.join(able) or 'a target that does'}, or leave it out",
            place=machine.place,
        )
    if boots and machine.init is None:  # else it is said where that is read
        yield restarted_twice(machine.restart, machine.place)


def _with(targets: Targets, trait: Literal["init", "image"]) -> str:
    """A target whose machines have images, or boot an init, as an author writes it."""
    name = default(targets, "image")
    if name is not None and (trait == "image" or targets[name].init):
        return f'on="{name}"'
    return "a target"


def _uses(machine: Machine, external: Collection[str]) -> Iterator[tuple[Capability, str, Place]]:
    """What a machine is declared with that its target has to be able to do.

    :param external: interfaces that it has in any case.
    """
    for interface, link in machine.links.items():
        if interface not in external:
            yield "links", f"the machine has link {interface!r}", link.place
    for argument in ("loopback", "forward", "masquerade", "forwards", "routes"):
        if getattr(machine, argument):
            yield "links", f"the machine has {argument}=", machine.place
    for condition in machine.wait_for:
        yield ASKS[condition.kind], f"{_waited(condition)} is waited for", machine.place
    if machine.limits is not None:
        yield "limits", "the machine has limits=", machine.place
    if machine.command is not None:
        yield "command", "the machine has command=", machine.place
    for role in machine.parts:
        if role.forward or role.serves_dhcp or role.links:
            yield "links", f"role {type(role).__name__} works on its links", machine.place
        for task in role.tasks("machine"):
            yield "run", f"role {type(role).__name__} has tasks ({task.title!r})", machine.place
        for capability in several(role.uses):
            used = cast("Capability", capability)  # roles that use anything else are refused
            yield used, f"role {type(role).__name__} uses that", machine.place


def _calls(machine: Machine, traits: Traits) -> Iterator[tuple[Capability, str, Place]]:
    """What tasks of a machine's roles will ask it for that no machine of its target can do."""
    lacking = {call for call, capability in OF_MACHINE.items() if not traits.can(capability)}
    if not lacking:
        return
    for role in machine.parts:
        for task in role.tasks("machine"):
            if not lacking.intersection(_names(task.function)):  # which is most of them
                continue
            task_name = f"task {task.title!r} of role {type(role).__name__}"
            for parameter in [*inspect.signature(task.function).parameters][1:2]:
                for use in uses_of_machine(task.function, parameter, "machine"):
                    if is_ruled_out(traits, use):
                        sentence = f"{task_name} calls {use.call} in {use.place}"
                        yield use.capability, sentence, machine.place


def _names(function: Callable[..., object]) -> tuple[str, ...]:
    """Names of attributes, among others, that a function's own code has."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return () if code is None else code.co_names


def _waited(condition: Condition) -> str:
    return f"{condition.kind} {condition.value!r}"


def check_target(layout: str, target: str, targets: Targets, place: Place | None = None) -> None:
    """Refuse a target of a whole layout that there is not.

    :param place: where the author chose it; None: nobody did, an option says so.
    :raises LayoutError: it is unknown.
    """
    if target not in targets:
        raise LayoutError(
            f"layout {layout!r}: target {target!r} is unknown;"
            + (f" declared at {place};" if place is not None else "")
            + f" try: one of {', '.join(sorted(targets))}"
        )
