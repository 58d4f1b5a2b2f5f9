"""Links that lose, delay or are pulled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric.bridges import until_up
from pytest_carthage.fabric.cable import Cable, Fields
from pytest_carthage.fabric.neighbours import meet_again, there
from pytest_carthage.fabric.wire.steps import Steps

if TYPE_CHECKING:
    from pytest_carthage.fabric.fault import Fault
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.pairs import Pairs
    from pytest_carthage.fabric.population import Population


class LinkFaults:
    """The bad links of a fabric."""

    def __init__(self, population: Population, pairs: Pairs, home: Home) -> None:
        self._population = population
        self._pairs = pairs
        self._home = home
        self._cables: dict[str, Cable] = {}
        #: port to the numbers of those who hold it down
        self._down: dict[str, set[int]] = {}

    def is_down(self, port: str) -> bool:
        """Whether a port is held down."""
        return bool(self._down.get(port))

    def impair(self, fault: Fault, message: Mapping[str, Any]) -> Steps[Fields]:
        """Make a link bad."""
        ways: dict[str, Fields] = message["ways"]
        cables = [self._cable(each) for each in message["cables"]]

        def change(values: Mapping[str, Fields | None]) -> Steps[None]:
            for cable in cables:
                if "to" in values:
                    cable.to = values["to"]
                if "from" in values:
                    cable.from_ = values["from"]
                yield from cable.turn.hold(cable.treat())

        def heal() -> Steps[None]:
            yield from change(dict.fromkeys(ways))
            for cable in cables:
                if not (cable.to or cable.from_) and self._cables.get(cable.port) is cable:
                    del self._cables[cable.port]

        try:
            yield from change(ways)
        except OSError:
            yield from heal()
            raise
        fault.machines.add(message["machine"])
        fault.heal = heal
        return {"mechanism": cables[0].mechanism if cables else ""}

    def _cable(self, message: Mapping[str, Any]) -> Cable:
        port = message["port"]
        if port not in self._cables:
            is_wire = bool(message.get("wire"))
            self._cables[port] = Cable(port, message["bridge"], is_wire=is_wire)
        return self._cables[port]

    def pull(self, fault: Fault, message: Mapping[str, Any]) -> Steps[Fields]:
        """Pull the cables of a link."""
        ports = list(message["ports"])
        for port in ports:
            self._down.setdefault(port, set()).add(fault.number)

        def heal() -> Steps[None]:
            free = []
            for port in ports:
                holders = self._down.get(port, set())
                holders.discard(fault.number)
                if not holders:
                    self._down.pop(port, None)
                    free.append(port)
            machine = self._population.find(message["machine"])
            if machine.place.is_plugged:  # else they are put in service when it starts
                free = there(free)
                self._pairs.set_ports(free, up=True)
                yield from until_up(free)
                meet_again(self._population, self._home, message["neighbours"])

        try:
            self._pairs.set_ports(there(ports), up=False)
        except OSError:
            yield from heal()
            raise
        fault.machines.add(message["machine"])
        fault.heal = heal
        return {}
