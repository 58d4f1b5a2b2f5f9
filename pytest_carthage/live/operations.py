"""What can be done with a whole live layout: each operation is declared here, once.

:class:`.Layout` waits for them, ``layout.aio`` is awaited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from pytest_carthage.bridge import Opening, opening, operation
from pytest_carthage.calls import closest

if TYPE_CHECKING:
    from pytest_carthage.handles.ansible_module import ModuleResults
    from pytest_carthage.handles.ansible_options import AnsibleOptions, PlaybookOptions
    from pytest_carthage.handles.drift import Drift
    from pytest_carthage.handles.gates import GateRecord
    from pytest_carthage.handles.playbook import PlaybookResult
    from pytest_carthage.live.faults.cuts import Group, Named
    from pytest_carthage.live.faults.registry import Fault, Faults
    from pytest_carthage.live.machines.machine import AsyncMachine
    from pytest_carthage.live.openings.gate import AsyncGate, Gate
    from pytest_carthage.live.openings.span import AsyncSpan, Span
    from pytest_carthage.live.openings.station import Inside
    from pytest_carthage.live.packets.capture import AsyncCapture, Capture
    from pytest_carthage.live.packets.sealing import SealReport
    from pytest_carthage.live.rooms import Rooms
    from pytest_carthage.model.machine import Machine
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.portal import Portal

__all__ = ["LayoutOperations"]


class LayoutOperations:
    """What can be done with a live layout, in either of its faces."""

    portal: Portal

    if TYPE_CHECKING:  # each face has its own

        @property
        def plan(self) -> Plan:
            """What is planned by now, added machines included."""
            ...

        @property
        def _rooms(self) -> Rooms:
            """Where its operations are carried out."""
            ...

    @operation
    async def add(self, machine: Machine, *, name: str) -> AsyncMachine:
        """Build one more machine, which the layout did not know; returns when it is ready.

        :raises LayoutError: the declaration does not fit the layout.
        :raises CreationError: it could not be created, or never became ready.
        """
        return await self._admit(machine, name)

    async def _admit(self, machine: Machine, name: str) -> AsyncMachine:
        """Create one more machine; the others learn its name."""
        raise NotImplementedError

    @operation
    async def remove(self, name: str) -> None:
        """Destroy one machine.

        :raises KeyError: there is no such machine.
        """
        if name not in self.plan.machines:
            raise KeyError(unknown(self.plan, name))
        await self._dismiss(name)

    async def _dismiss(self, name: str) -> None:
        """Destroy one machine; the others forget its name."""
        raise NotImplementedError

    @operation
    async def learn_addresses(self) -> None:
        """Read which addresses machines have on links without any in the plan, ``at(None)``.

        From then on ``address()``, names, captures and DNS know them, as they know those that were
        there when the layout came to life.

        :raises CreationError: a machine could not be told of the names.
        """
        await self._learn()

    async def _learn(self) -> None:
        """Take addresses into the plan that machines have set by themselves."""
        raise NotImplementedError

    @operation
    async def ansible(
        self,
        *playbooks: str | Path,
        timeout_s: float = 3600,
        idempotent: bool = False,
        **options: Unpack[PlaybookOptions],
    ) -> PlaybookResult:
        """Run ``ansible-playbook`` against the machines of this layout, and in its networks.

        Options are those of the command line by name: see :class:`.PlaybookOptions`.

        :param timeout_s: seconds that it may take.
        :param idempotent: run it a second time, and fail where that changes anything.
        :raises AnsibleError: an option is wrong, a play failed or could not be started, or the
            second run changed something: tells each task, and how.
        :raises GateError: what is declared as ``outside`` cannot be reached.
        :raises TimeLimitError: it did not end in time.
        """
        from pytest_carthage.work.ansible.playbook import run_play
        from pytest_carthage.work.ansible.plays import Play

        play = Play.of(self.plan, *playbooks, options=options)
        result = await run_play(self._played, play, timeout_s=timeout_s, idempotent=idempotent)
        self._rooms.plays.remember(play)
        return result

    @operation
    async def check_drift(self, *, timeout_s: float = 3600) -> Drift:
        """Tell what the playbooks that ran on this layout would change if they ran again.

        Each runs in check mode, with the options that it had: nothing changes.

        :param timeout_s: seconds that each may take.
        :raises AnsibleError: none has run, or one could not be started.
        :raises TimeLimitError: one did not end in time.
        """
        from pytest_carthage.work.ansible.playbook import run_play

        return await self._rooms.plays.check(
            self.plan.layout, lambda play: run_play(self._played, play, timeout_s=timeout_s)
        )

    @operation
    async def ansible_module(
        self,
        module: str,
        arguments: Mapping[str, Any] | str | None = None,
        *,
        hosts: str | Sequence[str] = "all",
        playbook_dir: str | Path | None = None,
        timeout_s: float = 600,
        **options: Unpack[AnsibleOptions],
    ) -> ModuleResults:
        """Run one module on machines of this layout, as ``ansible`` does.

        Options are those of the command line by name: see :class:`.AnsibleOptions`.

        :param arguments: a mapping, or one text as ``ansible -a`` takes it.
        :param hosts: machines and groups, in Ansible's pattern language or as a list.
        :param playbook_dir: the folder of a tree whose configuration, inventory and modules count;
            by default the folder of the file that this is called in.
        :raises AnsibleError: an option is wrong, no machine is meant, or the module failed.
        :raises TimeLimitError: it did not end in time.
        """
        from pytest_carthage.work.ansible.module import run_module

        return await run_module(
            self._played,
            module,
            arguments,
            hosts=hosts,
            playbook_dir=playbook_dir,
            timeout_s=timeout_s,
            options=options,
        )

    @property
    def _played(self) -> Any:
        """What Ansible is to see of it."""
        raise NotImplementedError

    @property
    def _faults(self) -> Faults:
        """Its faults, those that are healed included."""
        return self._rooms.faults

    @opening
    def partition(self, *groups: Group) -> Fault:
        """Cut the machines of each group off from those of the other groups, until it heals.

        A group is a machine, or a set of machines, as handles or names; a machine that is in no
        group goes on reaching everybody.

        :raises LookupError: there is no such machine; ValueError: one is in two groups.
        """
        from pytest_carthage.live.faults.cuts import partition

        return partition(self._rooms.faults, *groups)

    @opening
    def gate(
        self, machine: str | Named, *, to: str, for_s: float = 60.0
    ) -> Opening[AsyncGate, Gate]:
        """Let a machine reach one TCP port of one host outside, as long as the block runs.

        The gate listens inside the machine, and relays: no route leads out.

        :param to: ``"host:port"``, resolved where the test runs; or, where either is on no network
            of the layout, as an ssh host, another machine's name in place of the host.
        :param for_s: the gate closes by itself after this time.
        :raises UnsupportedError: the machine is outside of the fabric, on no network of it.
        :raises GateError: the name does not resolve, or the machine cannot listen.
        """
        given: Any = machine  # what is no machine is told of when the gate opens
        return self._rooms.gates.open(getattr(given, "name", given), to=to, for_s=for_s)

    @property
    def gates(self) -> Sequence[GateRecord]:
        """Every gate that was opened, in their order: who, to where, when, and what passed."""
        return tuple(gate.record for gate in tuple(self._rooms.gates.opened))

    @opening
    def capture(self, network: str, filter: str = "") -> Opening[AsyncCapture, Capture]:
        """Capture what is sent on a network while the block runs (pcap-filter(7))."""
        return self._rooms.captures.of_network(network, filter)

    @operation
    async def assert_sealed(self, *, timeout_s: float = 30.0) -> SealReport:
        """Prove by observation that no packet leaves this layout, and none comes in.

        :raises AssertionError: one did; tells which, from where and to whom.
        """
        from pytest_carthage.live.neighbours import neighbours
        from pytest_carthage.live.packets.sealing import assert_sealed

        return await assert_sealed(
            self.plan,
            self._rooms.reaches.fabric,
            stations=[*self._rooms.stations.made, *self._rooms.control.names],
            neighbours=lambda: neighbours(self._rooms.reaches.folder),
            timeout_s=timeout_s,
        )

    def inside(self, network: str) -> Inside:
        """Run blocking code of this thread in a network of the layout, while the block runs.

        :raises HostError: not root.
        """
        from pytest_carthage.live.openings.station import Inside

        return Inside(self._rooms.stations, network)

    @opening
    def span(self, other: LayoutOperations, network: str) -> Opening[AsyncSpan, Span]:
        """Make one network of two: this layout's, and the other live layout's of that name."""
        return self._rooms.site.span(other._rooms.site, network)

    def __contains__(self, name: object) -> bool:
        return name in self.plan.machines


def unknown(plan: Plan, name: str, others: Iterable[str] = ()) -> str:
    """The words for a machine that a layout does not have.

    :param others: what else could have been meant.
    """
    having = ", ".join(plan.machines) or "none"
    near = closest(name, [*plan.machines, *(one for one in others if not one.startswith("_"))])
    return (
        f"layout {plan.layout!r} has no machine {name!r}{f', {near}' if near else ';'}"
        f" its machines are: {having}"
    )
