"""A plan as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from pytest_carthage.planning.plan import Plan
from pytest_carthage.report.drawing.arrangement import (
    BAR,
    LINE,
    MARGIN,
    PADDING,
    Arrangement,
    Box,
    Dot,
    Wire,
)
from pytest_carthage.report.drawing.labels import subnets_of, traits_of

__all__ = ["svg"]

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


def svg(plan: Plan) -> str:
    """A self-contained SVG document, for light and dark surroundings."""
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(plan.networks)}
    drawing = Arrangement(plan)
    width, height = drawing.right + MARGIN, drawing.bottom
    name = escape(plan.layout)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
        f' viewBox="0 0 {width:g} {height:g}" role="img" aria-label="Layout {name}">',
        f"<title>Layout {name}</title>",
        f"<style>\n{_STYLE}</style>",
        f'<rect class="paper" width="{width:g}" height="{height:g}"/>',
        f'<text class="title" x="{MARGIN}" y="{MARGIN + 20}">{name}</text>',
        *(_wire(wire, colours) for wire in drawing.wires),
        *(_bar(drawing, network, colours) for network in plan.networks),
        *(_dot(dot, colours) for dot in drawing.dots),
        *(_box(box, colours) for box in drawing.boxes),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _wire(wire: Wire, colours: Mapping[str, str]) -> str:
    return (
        f'<line x1="{wire.x1:g}" y1="{wire.y1:g}" x2="{wire.x2:g}" y2="{wire.y2:g}"'
        f' stroke="{colours[wire.network]}" stroke-width="2"/>'
    )


def _dot(dot: Dot, colours: Mapping[str, str]) -> str:
    return f'<circle cx="{dot.x:g}" cy="{dot.y:g}" r="5" fill="{colours[dot.network]}"/>'


def _bar(drawing: Arrangement, network: str, colours: Mapping[str, str]) -> str:
    y = drawing.bars[network]
    words = escape(f"{network}   {subnets_of(drawing.plan.networks[network])}")
    return (
        f'<rect x="{MARGIN}" y="{y:g}" width="{drawing.right - MARGIN:g}" height="{BAR}"'
        f' rx="6" fill="{colours[network]}"/>'
        f'<text class="bar" xml:space="preserve" x="{MARGIN + 12}" y="{y + 20:g}">'
        f"{words}</text>"
    )


def _box(box: Box, colours: Mapping[str, str]) -> str:
    parts = [
        f"<g><title>{escape(', '.join(traits_of(box.machine)))}</title>"
        f'<rect class="box" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}"'
        f' height="{box.height:g}" rx="8"/>'
    ]
    y = box.y + PADDING + 10
    for line in box.lines:
        x = box.x + PADDING
        colour = colours.get(line.network)
        if colour is not None:
            parts.append(f'<circle cx="{x + 4:g}" cy="{y - 4:g}" r="4" fill="{colour}"/>')
        if colour is not None or line.follows:
            x += 14
        parts.append(
            f'<text class="{line.style}" xml:space="preserve" x="{x:g}" y="{y:g}">'
            f"{escape(line.words)}</text>"
        )
        y += LINE
    return "\n".join([*parts, "</g>"])
