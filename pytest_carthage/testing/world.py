"""Everything that is pretended of one environment: its machines, its fabric, its faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_carthage.errors import FabricError
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.testing.commands import Answer
from pytest_carthage.testing.machine import FakeMachine

__all__ = ["FakeFabric", "RecordedFault", "World"]


@dataclass(slots=True, kw_only=True)
class RecordedFault:
    """A fault that was asked of a fake fabric, which does nothing but remember it."""

    #: impair, down, partition, freeze or crash
    kind: str
    #: what was asked, as the fabric takes it (see ``pytest_carthage.fabric.disturb``)
    fields: Mapping[str, Any] = field(repr=False)
    is_active: bool = True

    @property
    def machines(self) -> tuple[str, ...]:
        """Names of the machines that it is about."""
        if self.kind == "partition":
            groups = self.fields["groups"]
            return tuple(member["machine"] for group in groups for member in group["members"])
        return (self.fields["machine"],)


class World(Mapping[str, FakeMachine]):
    """Name to fake machine, and the faults that there were."""

    def __init__(
        self,
        *,
        answers: Mapping[str, Answer] | None = None,
        files: Mapping[str, Mapping[str, str | bytes]] | None = None,
    ) -> None:
        self.faults: list[RecordedFault] = []
        self._answers = answers
        self._files = files or {}
        self._machines: dict[str, FakeMachine] = {}
        self._planned: dict[str, PlannedMachine] = {}

    def create(self, planned: PlannedMachine, *, hosts: str) -> FakeMachine:
        """Make what was planned."""
        machine = FakeMachine(
            planned.name,
            answers=self._answers,
            files={"/etc/hosts": hosts, **self._files.get(planned.name, {})},
            hostname=planned.hostname,
            env=planned.env,
            addresses=[
                (link.interface, str(own.address))
                for link in planned.links
                for own in link.addressings
                if own.is_expected
            ],
        )
        self._machines[planned.name] = machine
        self._planned[planned.name] = planned
        return machine

    def remove(self, name: str) -> None:
        """Forget a machine; one that is not there is not an error."""
        machine = self._machines.pop(name, None)
        self._planned.pop(name, None)
        if machine is not None:
            machine.power = "off"
            machine.files.close()
            for files in machine.snapshots.values():
                files.close()

    def close(self) -> None:
        """Forget all machines."""
        for name in list(self._machines):
            self.remove(name)

    def at(self, address: str) -> FakeMachine | None:
        """The machine that has an address; None: nobody."""
        for name, planned in self._planned.items():
            if any(str(one.ip) == address for link in planned.links for one in link.addresses):
                return self._machines[name]
        return None

    def __getitem__(self, name: str) -> FakeMachine:
        try:
            return self._machines[name]
        except KeyError:
            having = ", ".join(self._machines) or "none"
            raise KeyError(f"no fake machine {name!r}; there are: {having}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._machines)

    def __len__(self) -> int:
        return len(self._machines)


class FakeFabric:
    """The fabric of a fake environment: it holds nothing, and remembers what it was asked."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: operation and fields of everything that was asked
        self.requests: list[tuple[str, Mapping[str, Any]]] = []
        self.closed = False
        self._faults: dict[int, RecordedFault] = {}

    async def request(
        self, op: str, /, *, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask.

        :raises FabricError: it takes a real fabric.
        """
        self.requests.append((op, fields))
        handler = _FABRIC.get(op)
        if handler is None:
            raise FabricError(
                f"fake fabric: {op!r} takes a real one, where packets flow and programs run; "
                "try: the layout's own fixture"
            )
        return handler(self, fields), []

    def close(self) -> None:
        """Nothing more is asked."""
        self.closed = True

    def _disturb(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        asked = {name: value for name, value in fields.items() if name != "kind"}
        fault = RecordedFault(kind=fields["kind"], fields=asked)
        self._world.faults.append(fault)
        number = len(self._world.faults)
        self._faults[number] = fault
        return {"number": number, "mechanism": "fake"}

    def _heal(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        fault = self._faults.pop(fields["number"], None)
        if fault is not None:
            fault.is_active = False
        return {}

    def _machines(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        names = [spec["name"] for spec in fields["machines"]]
        made = {name: {"pid": None, "netns": f"/fake/{name}"} for name in names}
        return {"made": made, "failed": {}}


def _nothing(fabric: FakeFabric, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {}


_FABRIC: Mapping[str, Callable[[FakeFabric, Mapping[str, Any]], dict[str, Any]]] = {
    "disturb": FakeFabric._disturb,
    "heal": FakeFabric._heal,
    "hosts": _nothing,
    "machines": FakeFabric._machines,
    "networks": _nothing,
    "plug": _nothing,
    "remove": _nothing,
    "start": _nothing,
    "stop": _nothing,
}
