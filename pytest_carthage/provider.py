"""The seam between a plan and the world: what a provider promises.

A provider turns one planned machine into a live one. It has six members; everything
else is a capability of the machine's *means* (what it hands to the layout's handle).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

from pytest_carthage.errors import Problem
from pytest_carthage.handles.channel import Channel
from pytest_carthage.planning.targets import GROUP
from pytest_carthage.planning.traits import Traits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_carthage.channels.consoles import Attached
    from pytest_carthage.fabric.spec import PlaceKind, RootSpec
    from pytest_carthage.handles.capability import Capability
    from pytest_carthage.model.image import Image, ImageConfig
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.screens.keys import Chord

__all__ = [
    "BuiltImage",
    "Channel",
    "Console",
    "Context",
    "Describes",
    "Differs",
    "End",
    "Ends",
    "Freezes",
    "Identity",
    "KeepsLogs",
    "Lends",
    "Logs",
    "Means",
    "Places",
    "Plugs",
    "Powered",
    "PreparesEnvironments",
    "PrintsLogs",
    "Problem",
    "Provider",
    "Reads",
    "Screen",
    "Shows",
    "Slow",
    "Snapshots",
    "Stalls",
    "StartsFromImages",
    "TakesUp",
    "Traits",
    "View",
    "load_providers",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What is needed to destroy a resource, and nothing more: survives in the journal."""

    #: kind of the provider that owns it
    kind: str
    #: identity of the run, which no other run has, on this host or another: what a provider
    #: marks its resources with
    run: str
    environment: str
    #: unique within the environment, as in a machine's name
    name: str
    #: provider's own text values, as in ``("id", "3f2a...")``
    #: what else its provider knows it by; ``limit_s``: the seconds that destroying it may take,
    #: where 60 are too few, at most 280
    detail: tuple[tuple[str, str], ...] = ()
    #: whether it outlives the fabric: all of a target do whose traits say so, see :class:`Traits`;
    #: of others those do that their provider intends so
    outside: bool = False

    def with_detail(self, **detail: str) -> Identity:
        """The same thing, with more that is known of it; what was known of another name stays."""
        return replace(self, detail=tuple((dict(self.detail) | detail).items()))

    def __str__(self) -> str:
        known = ", ".join(f"{key}={value}" for key, value in self.detail)
        return f"{self.kind} {self.environment}/{self.name}" + (f" ({known})" if known else "")


class Places(Protocol):
    """Has the fabric make what is planned, see :attr:`Context.place`."""

    async def __call__(
        self, planned: PlannedMachine, kind: PlaceKind, root: RootSpec | None = None, /
    ) -> Mapping[str, Any]:
        """Place a machine.

        :raises FabricError: it could not be made.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a provider is given to create one machine."""

    #: what the machine is called in the journal, where it is already if its target is outside
    #: of the fabric; more ``detail`` is added by :attr:`intend`
    identity: Identity
    plan: Plan
    #: the environment's fabric
    fabric: Channel
    #: gives a planned machine its network in the fabric, with all its links: of kind
    #: "process" it is also the whole machine (a system container, with ``root=``, a
    #: :class:`pytest_carthage.fabric.spec.RootSpec`), of kind "namespace" an empty network
    #: namespace for somebody to live in, and of kind "tap" a tap device on its network's bridge
    #: for each cable, under the name of the link's ``port``, for somebody who brings a kernel of
    #: its own. Returns ``pid`` and ``netns``, a path that holds in the fabric.
    #: What is asked for in one turn of the event loop is made in one batch.
    place: Places
    #: opens a channel to the agent of a machine of the fabric
    channel: Callable[[str], Awaitable[Channel]]
    #: starts a command outside of the fabric that answers for a machine in place of an agent
    #: (see :mod:`pytest_carthage.channels.deputy`); returns a channel to it. It ends with the
    #: environment, or when another one is started for the same machine
    deputy: Callable[[str, Sequence[str]], Awaitable[Channel]]
    #: makes a place on a network of the layout, for sockets of this host; returns its name, by
    #: which the fabric is asked for them (``"socket"``). Raises LookupError: no address is left
    station: Callable[[str], Awaitable[str]]
    #: private folder of the environment, removed with it
    folder: Path
    #: folder for the machine's logs; bundles have NAME.png of it, too, the screen of a machine
    #: that was not created
    logs: Path
    #: writes an identity to the journal, *before* the thing exists or once more is known of it;
    #: returns when it is on disk. Of the same name, what is told later adds to the detail
    intend: Callable[[Identity], Awaitable[None]]
    #: tells a person how far things are, as in ``note("web", "starting")``
    note: Callable[[str, str], None]


@runtime_checkable
class Means(Protocol):
    """What a created machine is operated by: the least that every provider gives."""

    identity: Identity
    #: open connection to the machine's agent
    channel: Channel


@runtime_checkable
class Powered(Protocol):
    """Can be switched off and on again, keeping its disk and its links."""

    async def start(self) -> None:
        """Switch on; return when its agent answers."""
        ...

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Switch off in good order, or by force after the time."""
        ...


@runtime_checkable
class Resets(Protocol):
    """Has a reset button."""

    async def reset(self) -> None:
        """Press it: nothing in the machine is told; return when its agent answers again."""
        ...


@runtime_checkable
class Plugs(Protocol):
    """Takes disks and network cards while the machine runs."""

    async def plug_disk(self, name: str, size_mib: int) -> None:
        """Make an empty disk with this serial number, and plug it in.

        :raises FabricError: there is one of this name, or it cannot be plugged in.
        """
        ...

    async def unplug_disk(self, name: str) -> None:
        """Pull a disk out, when the machine has let go of it; it is gone with all that is on it.

        :raises FabricError: there is none, or the machine does not let go of it.
        """
        ...

    async def plug_card(self, port: str) -> None:
        """Plug the card in again that ends at this port of the fabric."""
        ...

    async def unplug_card(self, port: str) -> None:
        """Pull the card out that ends at this port, when the machine has let go of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a machine ended that nobody had asked to."""

    #: it is started again by itself; it has switched itself off; its first process ended with a
    #: status, or by a signal; it could not be started again; or it goes on without what ended: its
    #: main process, which may run again later, or its agent or its deputy, which has a successor.
    #: Or its main process ended, which was the first one; its own kernel gave up; or what it ran
    #: in was killed
    how: Literal[
        "reboot",
        "off",
        "exit",
        "killed",
        "lost",
        "main",
        "again",
        "agent",
        "deputy",
        "over",
        "panic",
        "emulator",
    ]
    #: its status, or the number of the signal
    status: int
    #: seconds since the epoch
    at_s: float
    #: what it printed last: of a kernel that gave up some lines, else one
    last: str
    #: seconds after which the main process is started again; None: it is not
    again_s: float | None = None
    #: how often it was, since the machine was started
    restarts: int = 0
    #: whether the kernel has killed it for want of memory
    is_oom: bool = False

    def __str__(self) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(self.at_s))
        text = {
            "reboot": f"it reboots since {at}",
            "off": f"it powered itself off at {at}",
            "exit": f"its first process ended at {at} with status {self.status}",
            "killed": f"its first process was killed at {at} by signal {self.status}",
            "lost": f"it was to start again at {at}, and did not",
            "main": f"its main process ended at {at} with status {self.status}",
            "over": f"its main process ended at {at} with status {self.status}",
            "again": f"its main process runs again since {at}",
            "agent": f"something in it has ended the agent at {at}, and another one answers",
            "deputy": f"its deputy, the process of this host that answers for it, ended at {at}, "
            "and another one takes its place",
            "panic": f"its kernel panicked at {at}",
            "emulator": f"its emulator ended at {at}, which it had not been asked to",
        }[self.how]
        if self.is_oom:
            text += ": the kernel has killed a process of it for want of memory"
        if self.again_s is not None:
            text += f", and is started again in {self.again_s:g} s"
        if "\n" in self.last:
            lines = "".join(f"\n  {line}" for line in self.last.splitlines())
            return f"{text}; it printed last:{lines}"
        return f"{text} (last line: {self.last})" if self.last else text


@runtime_checkable
class Ends(Protocol):
    """Can end by itself, as by ``poweroff``, and come back by itself, as by ``reboot``.

    Of one without power, it is who answers for it that ends, and has a successor.
    """

    async def ended(self) -> End:
        """Return when it has ended by itself, however often it is stopped until then.

        :raises FabricError: it is gone for good.
        """
        ...

    async def back(self) -> None:
        """Return when it has come back after a reboot, or when its main process runs again.

        :raises FabricError: it has not in time.
        """
        ...


@runtime_checkable
class Stalls(Protocol):
    """May stand for a while that nobody has asked for, as where this host's disk is full."""

    @property
    def stalled(self) -> str:
        """Why it stands just now; empty: it does not."""
        ...


@runtime_checkable
class Freezes(Protocol):
    """Stops and continues the machine by itself, where it is none of the fabric's processes."""

    async def freeze(self) -> None:
        """Stop everything in it, until :meth:`thaw`."""
        ...

    async def thaw(self) -> None:
        """Have it go on."""
        ...


@runtime_checkable
class Snapshots(Protocol):
    """Can be put back to what it was: its disks, its memory, and what runs in it."""

    async def snapshot(self, name: str) -> None:
        """Keep what it is now under a new name; it goes on.

        :raises FabricError: it cannot be kept; nothing is, and the machine is as it was.
        """
        ...

    async def revert(self, name: str) -> None:
        """Put it back, also one that is off; return when its agent answers.

        Its clock says what time it is now, and its random numbers are others than the last time.

        :raises FabricError: there is no such snapshot, or it cannot be put back.
        """
        ...

    async def snapshots(self) -> Sequence[str]:
        """Names of what is kept, the oldest first."""
        ...


@runtime_checkable
class Signals(Protocol):
    """Tells the machine's own kernel whether a cable is plugged, where it cannot see it itself."""

    async def signal(self, port: str, *, present: bool) -> None:
        """Have the interface behind this port of the fabric have a carrier, or none."""
        ...


@runtime_checkable
class Logs(Protocol):
    """Keeps what the machine's main process and init printed elsewhere than in its log file."""

    async def logs(self) -> str:
        """All that was printed so far."""
        ...


@runtime_checkable
class PrintsLogs(Protocol):
    """Machines whose log files hold more than what was printed; their provider says so, too."""

    def printed(self, log: bytes) -> bytes:
        """What a machine printed, of whole lines of its log file."""
        ...


@runtime_checkable
class KeepsLogs(Protocol):
    """A provider of machines that keep their logs themselves."""

    def log_command(
        self, facts: Mapping[str, Any], *, lines: int | None, follow: bool
    ) -> Sequence[str]:
        """The command of a machine that prints its log.

        :param facts: what its endpoint answers to ``facts``.
        :param lines: the last ones; None: all.
        """
        ...


@runtime_checkable
class Differs(Protocol):
    """Cannot be asked for all that machines of its target can, by how it is declared."""

    #: what it lacks, and how an author gets that, as in ``on=Vm(graphics=True)``
    lacks: Mapping[Capability, str]


@runtime_checkable
class Slow(Protocol):
    """Is slower than machines of its target are elsewhere, as where processors are emulated."""

    #: how many times as long as was declared it may take to be ready
    patience: int


@runtime_checkable
class Console(Protocol):
    """Has a serial console that somebody can attach to, see :mod:`.channels.consoles`."""

    async def attach(self, *, lines: int) -> Attached:
        """Attach to it; the last lines that were printed come first.

        :raises FabricError: nobody records it any more.
        """
        ...


@runtime_checkable
class Screen(Protocol):
    """Has a screen and a keyboard."""

    async def screenshot(self) -> bytes:
        """What is on it now: a PNG file.

        :raises FabricError: nothing is, as where the machine is off.
        """
        ...

    async def press(self, chords: Sequence[Chord]) -> None:
        """Press keys, one chord after the other; done when the machine can have taken them.

        :raises FabricError: nobody takes them.
        """
        ...


@runtime_checkable
class Reads(Protocol):
    """Knows the text on its screen, which is not recognised then."""

    async def screen_text(self) -> str:
        """The text, line by line.

        :raises FabricError: nothing is on it, as where the machine is off.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Where a viewer connects to a machine's screen."""

    #: UNIX socket at which it speaks VNC (RFC 6143), without a password
    socket: Path
    #: the libvirt that has it, by its URI, and what it is called there; empty: none has
    uri: str = ""
    domain: str = ""


@runtime_checkable
class Shows(Protocol):
    """A provider whose machines may have screens that other processes can look at."""

    def view(self, folder: Path, machine: str) -> View | None:
        """Where the screen of a machine is; None: it has none.

        :param folder: of the environment.
        :raises CarthageError: it has one that is not looked at from here; says how it is.
        """
        ...


class Provider(Protocol):
    """Turns planned machines of one target into live ones."""

    #: the target's name, as in ``on=``
    kind: str
    #: what its machines are like
    traits: Traits

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        """List what this host lacks (for this plan), without side effects."""
        ...

    async def create(self, planned: PlannedMachine, context: Context) -> Means:
        """Create one machine; return when its agent answers.

        :raises CreationError: with the last observation.
        """
        ...

    async def destroy(self, identity: Identity) -> None:
        """Destroy from identity alone; nothing to do is not an error.

        It is asked again, by whatever process, until it returns. Details that were told to
        :attr:`Context.intend` are there, as far as the creation has come.

        :raises RestoreError: it is destroyed, or given back, and not as it should be; who has torn
            the layout down is told, and it is not asked again.
        """
        ...

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """What still exists of a run; asked where its journal cannot tell all.

        :param run: identity of the run, see :attr:`Identity.run`.
        """
        ...


@runtime_checkable
class PreparesEnvironments(Protocol):
    """A provider with something to do before its first machine in an environment: a service in
    the fabric, a key pair, a network of a cloud.

    What outlives the fabric is written to the journal first, under a name of its own, and is
    destroyed as machines are, after them.
    """

    async def prepare(self, context: Context) -> None:
        """Prepare an environment, once; its first machine is created when this returns.

        :param context: its identity has no name.
        :raises CarthageError: the machines of this target cannot be created.
        """
        ...

    async def end(self, context: Context) -> None:
        """Let go of a prepared environment, whose machines are gone."""
        ...


@runtime_checkable
class TakesUp(Protocol):
    """A provider whose machines other processes can use when who has created them is gone."""

    async def take_up(self, planned: PlannedMachine, context: Context, *, runs: bool) -> Means:
        """Give what a machine that stands is operated by.

        :param runs: whether it runs, as far as the fabric knows; one that does not has no channel
            until it is started.
        :raises CarthageError: it does not answer.
        """
        ...


@runtime_checkable
class Lends(Protocol):
    """A provider of machines that exist, each of which is one run's at a time."""

    async def lease(self, planned: PlannedMachine) -> str | None:
        """Say who uses a machine, or why it is not to be used; None: it is free.

        :raises CarthageError: it does not answer.
        """
        ...

    async def break_lease(self, planned: PlannedMachine) -> str | None:
        """Take away what keeps others from using it; returns what that was, or None.

        :raises CarthageError: it does not answer.
        """
        ...


@runtime_checkable
class Describes(Protocol):
    """A provider whose machines are not the same on every host, as faster ones on some."""

    def describe(self) -> str:
        """What they are like here, and why, in some words; nothing is changed."""
        ...


class BuiltImage(Protocol):
    """An image that exists, see :class:`pytest_carthage.store.built.Built`."""

    @property
    def image(self) -> Image:
        """Its declaration."""
        ...

    @property
    def lower(self) -> Sequence[Path]:
        """Folders of its layers as overlayfs takes them: the top first."""
        ...

    @property
    def config(self) -> ImageConfig:
        """What it says beside its files."""
        ...


@runtime_checkable
class StartsFromImages(Protocol):
    """A provider whose machines start from images."""

    async def take_image(self, built: BuiltImage) -> None:
        """Take an image to start machines from, before the first of them is created.

        :raises BuildError: it cannot be used here.
        """
        ...


def load_providers() -> Mapping[str, Callable[[], Provider]]:
    """Targets that installed distributions offer: target to what makes its provider.

    They are entry points of the group ``pytest_carthage.providers``; the built-in ones, too.
    """
    return {
        entry.name: cast("Callable[[], Provider]", lambda entry=entry: entry.load()())
        for entry in entry_points(group=GROUP)
    }
