"""Where everything of a plan stands in a picture: boxes, bars and the wires between them.

Networks are bars across the drawing. A machine with one network hangs below its bar, in rows; a
machine with several has a column of its own at the left, so that its wires to the lower bars
cross no box. Lengths are in pixels, from the left and from the top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.report.drawing.labels import address_of, leading, remarks_on, traits_of

__all__ = ["BAR", "LINE", "MARGIN", "PADDING", "Arrangement", "Box", "Dot", "Line", "Wire"]

MARGIN = 24
BAR = 30
LINE = 17  # of text in a box
PADDING = 12
_GAP = 28  # between boxes
_STEM = 34  # between a bar and a box
_PER_ROW = 6
_CHARACTER = 7.3  # width of one at the size of the addresses, generously
_HEADING = 44
_NARROWEST = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of text in a box."""

    words: str
    style: str
    #: network of the dot before it; empty: there is none
    network: str = ""
    #: whether it belongs to the line above, which has a dot
    follows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A machine's place."""

    machine: PlannedMachine
    lines: tuple[Line, ...]
    x: float
    y: float
    width: float

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.y + self.height

    @property
    def height(self) -> float:
        """Enough for its lines."""
        return 2 * PADDING + LINE * len(self.lines) - 4

    def stem(self, number: int) -> float:
        """Where on its width the wire of an interface starts."""
        return self.x + self.width * (number + 1) / (len(leading(self.machine)) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A straight line of a network's colour."""

    network: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """Where a wire that has crossed other bars meets its own."""

    network: str
    x: float
    y: float


class Arrangement:
    """Places everything of a plan, from the top down."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._lines = {machine.name: _lines(machine) for machine in plan.machines.values()}
        widths = [len(line.words) * _CHARACTER + 40 for own in self._lines.values() for line in own]
        self._box_width = max([_NARROWEST, *widths])
        #: network to the top of its bar
        self.bars: dict[str, float] = {}
        self.boxes: list[Box] = []
        self.wires: list[Wire] = []
        self.dots: list[Dot] = []
        joining = [machine for machine in plan.machines.values() if len(machine.networks) > 1]
        self._columns = {
            machine.name: MARGIN + number * self._pitch for number, machine in enumerate(joining)
        }
        self._left = MARGIN + len(joining) * self._pitch
        single = max((len(self._hanging(name)) for name in [*plan.networks, None]), default=0)
        #: where bars end
        self.right = max(
            self._left + min(single, _PER_ROW) * self._pitch - _GAP,
            MARGIN + self._box_width * 1.6,
        )
        #: where the drawing ends
        self.bottom = self._place()

    @property
    def _pitch(self) -> float:
        return self._box_width + _GAP

    def _hanging(self, network: str | None) -> list[PlannedMachine]:
        """The machines on this network alone; None: those on no network."""
        networks = [network] if network is not None else []
        return [
            machine for machine in self.plan.machines.values() if list(machine.networks) == networks
        ]

    def _place(self) -> float:
        y: float = MARGIN + _HEADING
        for network in self.plan.networks:
            self.bars[network] = y
            y += BAR
            columns = [
                self._box(machine, self._columns[machine.name], y + _STEM)
                for machine in self._first_joining(network)
            ]
            below = max([y, *(box.bottom for box in columns)])
            y = max(below, self._place_rows(self._hanging(network), y, network)) + _STEM
        for box in self.boxes:
            if box.machine.name in self._columns:
                self._wire_joining(box)
        alone = self._hanging(None)
        return self._place_rows(alone, y - _STEM, None) + MARGIN if alone else y

    def _first_joining(self, network: str) -> Iterator[PlannedMachine]:
        """Machines on several networks of which this is the first."""
        order = list(self.plan.networks)
        for machine in self.plan.machines.values():
            if len(machine.networks) > 1 and min(machine.networks, key=order.index) == network:
                yield machine

    def _place_rows(
        self, machines: Sequence[PlannedMachine], top: float, network: str | None
    ) -> float:
        """Rows of boxes; from the second on they hang on a bus that leads to the bar."""
        y = top
        for row in range(ceil(len(machines) / _PER_ROW)):
            inhabitants = machines[row * _PER_ROW : (row + 1) * _PER_ROW]
            placed = [
                self._box(machine, self._left + column * self._pitch, y + _STEM)
                for column, machine in enumerate(inhabitants)
            ]
            for box in placed:
                for number in range(len(leading(box.machine))):
                    self._wire(network, box.stem(number), y, box.stem(number), box.y)
            if row:
                trunk = self._left - _GAP / 2
                self._wire(network, trunk, top, trunk, y)
                last = placed[-1].stem(len(leading(placed[-1].machine)) - 1)
                self._wire(network, trunk, y, last, y)
            y = max(box.bottom for box in placed) + (_GAP / 2)
        return y - (_GAP / 2) if machines else y

    def _box(self, machine: PlannedMachine, x: float, y: float) -> Box:
        lines = self._lines[machine.name]
        self.boxes.append(Box(machine=machine, lines=lines, x=x, y=y, width=self._box_width))
        return self.boxes[-1]

    def _wire(self, network: str | None, x1: float, y1: float, x2: float, y2: float) -> None:
        if network is not None:
            self.wires.append(Wire(network=network, x1=x1, y1=y1, x2=x2, y2=y2))

    def _wire_joining(self, box: Box) -> None:
        """Wires of a machine on several networks."""
        for number, link in enumerate(leading(box.machine)):
            x, bar = box.stem(number), self.bars[link.network]
            if bar < box.y:
                self._wire(link.network, x, bar + BAR, x, box.y)
            else:
                self._wire(link.network, x, box.bottom, x, bar)
                self.dots.append(Dot(network=link.network, x=x, y=bar))


def _lines(machine: PlannedMachine) -> tuple[Line, ...]:
    _, target, image, *_ = traits_of(machine)
    lines = [Line(words=machine.name, style="name")]
    words = " · ".join(word for word in (target, image) if word != "-")
    lines.append(Line(words=words, style="faint"))
    roles = [type(role).__name__ for role in machine.roles]
    if roles:
        lines.append(Line(words=", ".join(roles), style="faint"))
    for link in machine.links:
        words = f"{link.interface}  {address_of(link)}"
        lines.append(Line(words=words, style="plain", network=link.network))
        remarks = remarks_on(link)
        if remarks:
            lines.append(Line(words=", ".join(remarks), style="faint", follows=True))
    for route in machine.routes:
        lines.append(Line(words=f"{route.destination} via {route.via}", style="faint"))
    return tuple(lines)
