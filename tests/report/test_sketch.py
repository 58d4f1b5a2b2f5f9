"""A plan as plain values, and back."""

from __future__ import annotations

import json

import pytest

from pytest_carthage import Image, Layout, Machine, Network, Role
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.sketch import recall, sketch
from pytest_carthage.report import drawing


class Store(Role):
    """Keeps things."""


class Shop(Layout):
    lan = Network("10.0.0.0/24", mtu=1400)
    dmz = Network("fd00::/64")
    debian = Image.debian("bookworm")

    gw = Machine(masquerade="dmz0", links={"lan0": lan.at(".1"), "dmz0": dmz.at("::1")})
    db = Machine(
        debian,
        init="systemd",
        roles=[Store()],
        links={"eth0": lan.at(".10", gateway=".1"), "eth1": lan.at(None)},
        routes={"10.9.0.0/16": ".1"},
        groups=["stores"],
        after=gw,
    )
    alone = Machine()


@pytest.mark.parametrize("draw", [drawing.text, drawing.mermaid, drawing.svg])
def test_recalled_plan_is_drawn_like_the_plan(draw: object) -> None:
    assert callable(draw)
    plan = make_plan(Shop)
    again = recall(json.loads(json.dumps(sketch(plan))))
    assert draw(again) == draw(plan)
    assert sketch(again) == sketch(plan)


def test_sketch_has_addresses_by_interface() -> None:
    machines = sketch(make_plan(Shop))["machines"]
    assert machines["gw"]["addresses"] == {"lan0": "10.0.0.1/24", "dmz0": "fd00::1/64"}
    assert machines["db"]["addresses"] == {"eth0": "10.0.0.10/24"}
    assert machines["db"]["routes"] == [{"destination": "10.9.0.0/16", "via": "10.0.0.1"}]
