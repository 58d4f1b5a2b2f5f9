"""Drawings of a plan: for a terminal, as Mermaid, as SVG. Pure functions from plan to text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from pytest_carthage.planning.plan import Plan, PlannedLink, PlannedMachine, PlannedNetwork

__all__ = ["mermaid", "svg", "text"]


def text(plan: Plan) -> str:
    """For a terminal: each network with what is linked to it, then the machines."""
    lines = [plan.layout]
    for network in plan.networks.values():
        lines += ["", f"{network.name}  {_traits_of(network)}", *_tree(_linked(plan, network))]
    if plan.machines:
        lines += ["", "machines", *_tree([_traits(machine) for machine in plan.machines.values()])]
    return "\n".join(lines) + "\n"


def _linked(plan: Plan, network: PlannedNetwork) -> list[list[str]]:
    return [
        [machine.name, link.interface, _address(link), *_remarks(link)]
        for machine in plan.machines.values()
        for link in machine.links
        if link.network == network.name
    ]


def _tree(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as branches, their columns aligned."""
    widths = [
        max(len(row[column]) for row in rows if column < len(row))
        for column in range(max(map(len, rows), default=0))
    ]
    for number, row in enumerate(rows):
        branch = "└──" if number == len(rows) - 1 else "├──"
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield f"{branch} {'  '.join(cells)}".rstrip()


def _traits_of(network: PlannedNetwork) -> str:
    """Subnets, and what it is where it is more than a bridge."""
    subnets = [str(subnet.network) for subnet in network.subnets] or ["no addresses"]
    more: list[str] = [network.kind] if network.kind != "bridged" else []
    more += [f"vlan {network.vlan_id}"] if network.vlan_id is not None else []
    return ", ".join([*subnets, *more])


def _address(link: PlannedLink) -> str:
    asks = [
        "DHCP" if one.dhcp else "SLAAC" for one in link.addressings if one.asks and not one.address
    ]
    known = [str(address.ip) for address in link.addresses] + asks
    return ", ".join(known) or "no address"


def _remarks(link: PlannedLink) -> list[str]:
    remarks: list[str] = [link.kind] if link.kind != "bridged" else []
    remarks += [f"over {', '.join(link.over)}"] if link.over else []
    remarks += [f"of {', '.join(name for name, _ in link.members)}"] if link.members else []
    remarks += [f"via {one.gateway}" for one in link.addressings if one.gateway]
    return remarks + (["masquerade"] if link.masquerade else [])


def _leading(machine: PlannedMachine) -> list[PlannedLink]:
    """Its links to networks: all but trunks, whose networks are on the links that stand on them."""
    return [link for link in machine.links if link.network]


def _traits(machine: PlannedMachine) -> list[str]:
    """Name, target, image, what it is for, what it waits for."""
    more = [type(role).__name__ for role in machine.roles]
    more += [machine.init] if machine.init else []
    more += ["forwards"] if machine.forward else []
    more += [f"{route.destination} via {route.via}" for route in machine.routes]
    more += [f"after {', '.join(machine.after)}"] if machine.after else []
    image = machine.image.name if machine.image else "-"
    return [machine.name, machine.target, image, *([", ".join(more)] if more else [])]


def mermaid(plan: Plan) -> str:
    """A Mermaid flow chart, which code forges draw in Markdown."""
    lines = ["flowchart TB"]
    for network in plan.networks.values():
        label = _quoted(network.name, _traits_of(network))
        lines.append(f"    {_node('network', network.name)}([{label}])")
    for machine in plan.machines.values():
        traits = [trait for trait in _traits(machine)[1:3] if trait != "-"]
        label = _quoted(f"<b>{escape(machine.name)}</b>", escape(" · ".join(traits)))
        lines.append(f"    {_node('machine', machine.name)}[{label}]")
    for machine in plan.machines.values():
        for link in _leading(machine):
            label = _quoted(" ".join([link.interface, _address(link), *_remarks(link)]))
            ends = _node("network", link.network), _node("machine", machine.name)
            lines.append(f"    {ends[0]} ---|{label}| {ends[1]}")
    lines.append("    classDef network fill:#dbeafe,stroke:#2563eb,color:#1e3a8a")
    if plan.networks:
        names = ",".join(_node("network", name) for name in plan.networks)
        lines.append(f"    class {names} network")
    return "\n".join(lines) + "\n"


def _node(kind: str, name: str) -> str:
    """An identifier that Mermaid takes, different for different names."""
    return f"{kind}_" + re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", name)


def _quoted(*lines: str) -> str:
    return '"' + "<br/>".join(line.replace('"', "#quot;") for line in lines if line) + '"'


# The SVG. Networks are bars across the drawing. A machine with one network hangs below its bar,
# in rows; a machine with several has a column of its own at the left, so that its lines to the
# lower bars cross no box.

_MARGIN = 24
_GAP = 28  # between boxes
_STEM = 34  # between a bar and a box
_BAR = 30
_LINE = 17  # of text in a box
_PADDING = 12
_PER_ROW = 6
_CHARACTER = 7.3  # width of one at the size of the addresses, generously
_HEADING = 44

# Fill for each network in turn; white text on each passes WCAG's contrast for normal text.
_COLOURS = ("#2563eb", "#047857", "#b45309", "#7c3aed", "#be123c", "#0e7490", "#4d7c0f", "#a21caf")

_STYLE = """\
text { font-family: system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; font-size: 12px; }
.paper { fill: #ffffff } .title { font-size: 17px; font-weight: 600; fill: #111827 }
.box { fill: #f9fafb; stroke: #9ca3af } .name { font-size: 14px; font-weight: 600; fill: #111827 }
.plain { fill: #1f2937 } .faint { fill: #6b7280; font-size: 11px }
.bar { fill: #ffffff; font-size: 13px; font-weight: 600 }
@media (prefers-color-scheme: dark) {
.paper { fill: #111827 } .title, .name { fill: #f3f4f6 } .box { fill: #1f2937; stroke: #6b7280 }
.plain { fill: #e5e7eb } .faint { fill: #9ca3af } }
"""


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of text in a box."""

    words: str
    style: str
    #: colour of the dot before it
    dot: str | None = None
    #: whether it belongs to the line above, which has a dot
    follows: bool = False


@dataclass(frozen=True, slots=True)
class _Box:
    """A machine's place."""

    machine: PlannedMachine
    lines: tuple[_Line, ...]
    x: float
    y: float
    width: float
    height: float

    def stem(self, number: int) -> float:
        """Where on its width the line of an interface starts."""
        return self.x + self.width * (number + 1) / (len(_leading(self.machine)) + 1)


def svg(plan: Plan) -> str:
    """A self-contained SVG document, for light and dark surroundings."""
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(plan.networks)}
    lines = {machine.name: _box_lines(machine, colours) for machine in plan.machines.values()}
    width = max(
        [150.0] + [len(line.words) * _CHARACTER + 40 for own in lines.values() for line in own]
    )
    return _Drawing(plan, colours, lines, width).document()


def _box_lines(machine: PlannedMachine, colours: dict[str, str]) -> tuple[_Line, ...]:
    _, *traits = _traits(machine)
    lines = [_Line(machine.name, "name")]
    lines.append(_Line(" · ".join(trait for trait in traits[:2] if trait != "-"), "faint"))
    roles = [type(role).__name__ for role in machine.roles]
    if roles:
        lines.append(_Line(", ".join(roles), "faint"))
    for link in machine.links:
        words = f"{link.interface}  {_address(link)}"
        lines.append(_Line(words, "plain", colours.get(link.network)))
        remarks = _remarks(link)
        if remarks:
            lines.append(_Line(", ".join(remarks), "faint", follows=True))
    lines += [_Line(f"{route.destination} via {route.via}", "faint") for route in machine.routes]
    return tuple(lines)


class _Drawing:
    """Places everything from the top down, then writes it."""

    def __init__(
        self,
        plan: Plan,
        colours: dict[str, str],
        lines: dict[str, tuple[_Line, ...]],
        box_width: float,
    ) -> None:
        self.plan = plan
        self.colours = colours
        self.lines = lines
        self.box_width = box_width
        self.bars: dict[str, float] = {}
        self.boxes: list[_Box] = []
        self.wires: list[str] = []
        joining = [m for m in plan.machines.values() if len(m.networks) > 1]
        self.columns = {m.name: _MARGIN + n * self.pitch for n, m in enumerate(joining)}
        self.left = _MARGIN + len(joining) * self.pitch
        single = max((len(self.hanging(name)) for name in [*plan.networks, None]), default=0)
        self.right = max(
            self.left + min(single, _PER_ROW) * self.pitch - _GAP, _MARGIN + self.box_width * 1.6
        )
        self.bottom = self.place()

    @property
    def pitch(self) -> float:
        return self.box_width + _GAP

    def hanging(self, network: str | None) -> list[PlannedMachine]:
        """The machines on this network alone; None: those on no network."""
        wanted = [network] if network is not None else []
        return [m for m in self.plan.machines.values() if list(m.networks) == wanted]

    def place(self) -> float:
        y: float = _MARGIN + _HEADING
        order = list(self.plan.networks)
        for network in order:
            self.bars[network] = y
            y += _BAR
            below = y
            for machine in self.plan.machines.values():
                used = machine.networks
                if len(used) > 1 and min(used, key=order.index) == network:
                    box = self.box(machine, self.columns[machine.name], y + _STEM)
                    below = max(below, box.y + box.height)
            y = max(below, self.place_rows(self.hanging(network), y, self.colours[network])) + _STEM
        alone = self.hanging(None)
        return self.place_rows(alone, y - _STEM, None) + _MARGIN if alone else y

    def place_rows(self, machines: Sequence[PlannedMachine], top: float, bus: str | None) -> float:
        """Rows of boxes; from the second on they hang on a bus that leads to the bar."""
        y = top
        for row in range(ceil(len(machines) / _PER_ROW)):
            inhabitants = machines[row * _PER_ROW : (row + 1) * _PER_ROW]
            placed = [
                self.box(machine, self.left + column * self.pitch, y + _STEM)
                for column, machine in enumerate(inhabitants)
            ]
            for box in placed:
                for number in range(len(_leading(box.machine))):
                    self.wire(box.stem(number), y, box.stem(number), box.y, bus)
            if row:
                trunk = self.left - _GAP / 2
                self.wire(trunk, top, trunk, y, bus)
                last = placed[-1].stem(len(_leading(placed[-1].machine)) - 1)
                self.wire(trunk, y, last, y, bus)
            y = max(box.y + box.height for box in placed) + (_GAP / 2)
        return y - (_GAP / 2) if machines else y

    def box(self, machine: PlannedMachine, x: float, y: float) -> _Box:
        lines = self.lines[machine.name]
        height = 2 * _PADDING + _LINE * len(lines) - 4
        self.boxes.append(_Box(machine, lines, x, y, self.box_width, height))
        return self.boxes[-1]

    def wire(self, x1: float, y1: float, x2: float, y2: float, colour: str | None) -> None:
        if colour is not None:
            self.wires.append(
                f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"'
                f' stroke="{colour}" stroke-width="2"/>'
            )

    def wire_joining(self, box: _Box) -> Iterator[str]:
        """Lines of a machine on several networks; a dot where a line meets its own bar."""
        for number, link in enumerate(_leading(box.machine)):
            x, bar, colour = box.stem(number), self.bars[link.network], self.colours[link.network]
            if bar < box.y:
                self.wire(x, bar + _BAR, x, box.y, colour)
            else:
                self.wire(x, box.y + box.height, x, bar, colour)
                yield f'<circle cx="{x:g}" cy="{bar:g}" r="5" fill="{colour}"/>'

    def document(self) -> str:
        dots = [
            dot
            for box in self.boxes
            if box.machine.name in self.columns
            for dot in self.wire_joining(box)
        ]
        width, height = self.right + _MARGIN, self.bottom
        name = escape(self.plan.layout)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
            f' viewBox="0 0 {width:g} {height:g}" role="img" aria-label="Layout {name}">',
            f"<title>Layout {name}</title>",
            f"<style>\n{_STYLE}</style>",
            f'<rect class="paper" width="{width:g}" height="{height:g}"/>',
            f'<text class="title" x="{_MARGIN}" y="{_MARGIN + 20}">{name}</text>',
            *self.wires,
            *(self.draw_bar(network) for network in self.plan.networks.values()),
            *dots,
            *(_draw_box(box) for box in self.boxes),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def draw_bar(self, network: PlannedNetwork) -> str:
        y = self.bars[network.name]
        words = escape(f"{network.name}   {_traits_of(network)}")
        return (
            f'<rect x="{_MARGIN}" y="{y:g}" width="{self.right - _MARGIN:g}" height="{_BAR}"'
            f' rx="6" fill="{self.colours[network.name]}"/>'
            f'<text class="bar" xml:space="preserve" x="{_MARGIN + 12}" y="{y + 20:g}">'
            f"{words}</text>"
        )


def _draw_box(box: _Box) -> str:
    parts = [
        f"<g><title>{escape(', '.join(_traits(box.machine)))}</title>"
        f'<rect class="box" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}"'
        f' height="{box.height:g}" rx="8"/>'
    ]
    y = box.y + _PADDING + 10
    for line in box.lines:
        x = box.x + _PADDING
        if line.dot is not None:
            parts.append(f'<circle cx="{x + 4:g}" cy="{y - 4:g}" r="4" fill="{line.dot}"/>')
        if line.dot is not None or line.follows:
            x += 14
        parts.append(
            f'<text class="{line.style}" xml:space="preserve" x="{x:g}" y="{y:g}">'
            f"{escape(line.words)}</text>"
        )
        y += _LINE
    return "\n".join([*parts, "</g>"])
