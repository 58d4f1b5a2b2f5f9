from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_carthage import Image, Layout, Machine, Network, trunk
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan
from pytest_carthage.report.drawing import mermaid, svg, text
from pytest_carthage.report.drawing.arrangement import BAR, Arrangement
from pytest_carthage.roles import Router

SVG = "{http://www.w3.org/2000/svg}"


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")
    debian = Image.debian("bookworm")
    gw = Machine(
        debian,
        roles=[Router(masquerade="dmz0")],
        links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")},
    )
    db = Machine(debian, links={"eth0": lan.at(".10", gateway=".1")})
    web = Machine(links={"eth0": dmz.at(".20"), "eth1": dmz.at(None)}, after=[db])
    lone = Machine(hostname="alone")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Shop)


def test_text_shows_networks_then_machines(plan: Plan) -> None:
    assert text(plan) == (
        """\
Shop

lan  10.0.0.0/24
├── gw  lan0  10.0.0.1
└── db  eth0  10.0.0.10  via 10.0.0.1

dmz  192.0.2.0/24
├── gw   dmz0  192.0.2.1   masquerade
├── web  eth0  192.0.2.20
└── web  eth1  no address

machines
├── gw    netns  debian  Router, forwards
├── db    netns  debian
├── web   netns  -       after db
└── lone  netns  -
"""
    )


class Kinds(Layout):
    lan = Network("10.0.0.0/24", vlan_id=10)
    dmz = Network("10.1.0.0/24", "fd00:1::/64", vlan_id=20)
    wire = Network("10.2.0.0/31", kind="point-to-point")
    bare = Network()
    a = Machine(
        links={
            "eth0": trunk(lan, dmz),
            "lan0": lan.at(".1", over="eth0"),
            "dmz0": dmz.at(".1", over="eth0"),
            "wire0": wire.at(),
        }
    )
    b = Machine(
        links={
            "bond0": lan.at(".2", bond=("eth0", "eth1")),
            "dmz0": dmz.at(kind="macvlan", secondary_addresses=[".9"]),
            "wire0": wire.at(),
            "bare0": bare.at(),
        }
    )


def test_text_shows_kinds_and_all_addresses() -> None:
    assert text(make_plan(Kinds)).partition("\nmachines")[0] == (
        """\
Kinds

lan  10.0.0.0/24, vlan 10
├── a  lan0   10.0.0.1  vlan  over eth0
└── b  bond0  10.0.0.2  bond  of eth0, eth1

dmz  10.1.0.0/24, fd00:1::/64, vlan 20
├── a  dmz0  10.1.0.1                       vlan     over eth0
└── b  dmz0  10.1.0.2, 10.1.0.9, fd00:1::1  macvlan

wire  10.2.0.0/31, point-to-point
├── a  wire0  10.2.0.0
└── b  wire0  10.2.0.1

bare  no addresses
└── b  bare0  no address
"""
    )


def test_trunk_is_in_the_box_and_has_no_line_of_its_own() -> None:
    plan = make_plan(Kinds)
    drawn = ElementTree.fromstring(svg(plan))
    assert "eth0  no address" in [element.text for element in drawn.iter(f"{SVG}text")]
    assert mermaid(plan).count(" ---|") == 7


def test_text_of_an_empty_layout_is_its_name() -> None:
    assert text(make_plan(Layout.of("Empty", {}))) == "Empty\n"


def test_mermaid_draws_every_link(plan: Plan) -> None:
    assert mermaid(plan) == (
        """\
flowchart TB
    network_lan(["lan<br/>10.0.0.0/24"])
    network_dmz(["dmz<br/>192.0.2.0/24"])
    machine_gw["<b>gw</b><br/>netns · debian"]
    machine_db["<b>db</b><br/>netns · debian"]
    machine_web["<b>web</b><br/>netns"]
    machine_lone["<b>lone</b><br/>netns"]
    network_lan ---|"lan0 10.0.0.1"| machine_gw
    network_dmz ---|"dmz0 192.0.2.1 masquerade"| machine_gw
    network_lan ---|"eth0 10.0.0.10 via 10.0.0.1"| machine_db
    network_dmz ---|"eth0 192.0.2.20"| machine_web
    network_dmz ---|"eth1 no address"| machine_web
    classDef network fill:#dbeafe,stroke:#2563eb,color:#1e3a8a
    class network_lan,network_dmz network
"""
    )


def test_mermaid_keeps_names_apart_that_differ_in_signs_only() -> None:
    twins = Layout.of("Twins", {"a-b": Machine(), "a.b": Machine()})
    drawn = mermaid(make_plan(twins))
    assert 'machine_a_2d_b["<b>a-b</b>' in drawn
    assert 'machine_a_2e_b["<b>a.b</b>' in drawn


def words(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_svg_is_self_contained_and_names_everything(plan: Plan) -> None:
    drawn = svg(plan)
    root = ElementTree.fromstring(drawn)
    assert drawn.count("http") == 1, "nothing but the name space is a link"
    assert {"Shop", "lan   10.0.0.0/24", "dmz   192.0.2.0/24"} <= set(words(root))
    assert {"gw", "db", "web", "lone", "lan0  10.0.0.1", "via 10.0.0.1"} <= set(words(root))


#: left, top, width, height
Area = tuple[float, float, float, float]


def boxes(root: ElementTree.Element) -> list[Area]:
    areas: list[Area] = []
    for box in root.iter(f"{SVG}rect"):
        if box.get("class") != "paper":
            x, y, width, height = (float(box.attrib[k]) for k in ("x", "y", "width", "height"))
            areas.append((x, y, width, height))
    return areas


def overlap(area: Area, other: Area) -> bool:
    return (
        area[0] < other[0] + other[2]
        and other[0] < area[0] + area[2]
        and area[1] < other[1] + other[3]
        and other[1] < area[1] + area[3]
    )


def check_that_nothing_crosses(layout: type[Layout]) -> None:
    root = ElementTree.fromstring(svg(make_plan(layout)))
    placed = boxes(root)
    networks = len(layout.networks())
    assert len(placed) == networks + len(layout.machines())
    for number, area in enumerate(placed):
        assert not any(overlap(area, other) for other in placed[:number])
        assert area[0] + area[2] <= float(root.attrib["width"])
        assert area[1] + area[3] <= float(root.attrib["height"])
    for line in root.iter(f"{SVG}line"):
        x1, y1, x2, y2 = (float(line.attrib[key]) for key in ("x1", "y1", "x2", "y2"))
        assert x2 >= x1
        assert y2 >= y1
        assert not any(overlap((x1, y1, x2 - x1, y2 - y1), box) for box in placed[networks:])


@settings(max_examples=30, deadline=None)
@given(data=st.data(), networks=st.integers(0, 5), machines=st.integers(0, 16))
def test_svg_of_any_layout_has_no_boxes_or_lines_across_boxes(
    data: st.DataObject, networks: int, machines: int
) -> None:
    lans = {f"lan{i}": Network(f"10.{i}.0.0/16") for i in range(networks)}
    declared: dict[str, object] = dict(lans)
    for i in range(machines):
        chosen = (
            data.draw(st.lists(st.sampled_from(list(lans.values())), max_size=4)) if lans else []
        )
        links = {f"eth{n}": lan.at() for n, lan in enumerate(chosen)}
        declared[f"m{i}"] = Machine(links=links)
    check_that_nothing_crosses(Layout.of("Any", declared))


def test_svg_of_a_crowd_has_rows_that_hang_on_one_bar() -> None:
    lan = Network("10.0.0.0/16")
    crowd = {f"m{i}": Machine(links={"eth0": lan.at()}) for i in range(15)}
    layout = Layout.of("Crowd", {"lan": lan, **crowd})
    check_that_nothing_crosses(layout)
    root = ElementTree.fromstring(svg(make_plan(layout)))
    assert len({y for _, y, _, _ in boxes(root)}) == 4, "a bar and three rows"


def test_svg_escapes_what_markup_would_read() -> None:
    odd = Layout.of("Odd", {"a": Machine(Image.oci("localhost/a&b<c>"))})
    root = ElementTree.fromstring(svg(make_plan(odd)))
    assert "netns · localhost/a&b<c>" in words(root)
    assert "localhost/a&amp;b&lt;c&gt;" in mermaid(make_plan(odd))


def test_svg_of_an_empty_layout_has_its_name() -> None:
    root = ElementTree.fromstring(svg(make_plan(Layout.of("Empty", {}))))
    assert words(root) == ["Empty"]
    assert boxes(root) == []


def test_arrangement_gives_a_gateway_a_wire_and_a_dot_for_each_lower_bar(plan: Plan) -> None:
    drawing = Arrangement(plan)
    (gateway,) = [box for box in drawing.boxes if box.machine.name == "gw"]
    wires = [wire for wire in drawing.wires if wire.x1 in (gateway.stem(0), gateway.stem(1))]
    assert [wire.network for wire in wires] == ["lan", "dmz"]
    assert wires[0].y1 == drawing.bars["lan"] + BAR
    assert wires[0].y2 == gateway.y
    assert (wires[1].y1, wires[1].y2) == (gateway.bottom, drawing.bars["dmz"])
    assert [(dot.network, dot.y) for dot in drawing.dots] == [("dmz", drawing.bars["dmz"])]


def test_arrangement_writes_what_a_machine_is_into_its_box(plan: Plan) -> None:
    lines = {box.machine.name: box.lines for box in Arrangement(plan).boxes}
    assert [(line.words, line.style) for line in lines["gw"]] == [
        ("gw", "name"),
        ("netns · debian", "faint"),
        ("Router", "faint"),
        ("lan0  10.0.0.1", "plain"),
        ("dmz0  192.0.2.1", "plain"),
        ("masquerade", "faint"),
    ]
    assert [line.network for line in lines["gw"]] == ["", "", "", "lan", "dmz", ""]
    assert [line.follows for line in lines["gw"]] == [False] * 5 + [True]
    assert [line.words for line in lines["lone"]] == ["lone", "netns"]
