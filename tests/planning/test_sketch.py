"""A plan in plain values and back: what is drawn of it is the same."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_carthage import (
    Disk,
    Image,
    Layout,
    Machine,
    Network,
    Role,
    V4Config,
    V6Config,
    Vm,
    trunk,
)
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.sketch import recall, sketch
from pytest_carthage.planning.traits import Traits
from pytest_carthage.roles import DhcpServer, Nginx, Router

TARGETS = {
    "host": Traits(root="host", init=False, outside=False, is_default=True),
    "image": Traits(root="image", init=True, outside=False, needs="folders", is_default=True),
}


class Shop(Layout):
    lan = Network("10.0.0.0/24", "fd00::/64", vlan_id=10, mtu=1400)
    wan = Network("192.0.2.0/24", kind="point-to-point")
    frames = Network()
    debian = Image.debian("bookworm")
    gw = Machine(
        roles=[Router(masquerade="wan0")],
        links={
            "wan0": wan.at(".1"),
            "eth0": trunk(lan),
            "lan0": lan.at(".1", "::1", over="eth0", mac="02:00:00:00:00:07"),
        },
        routes={"10.7.0.0/16": ".2", "fd07::/64": "fd00::2"},
        groups=["routers", "edge"],
    )
    web = Machine(
        debian,
        roles=[Nginx()],
        hostname="www.shop.example",
        links={
            "eth0": lan.at(".2", "::2", gateway=".1", secondary_addresses=[".3", ".4"]),
            "eth1": frames.at(None),
        },
        init="systemd",
        after=[gw],
    )


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Shop, targets=TARGETS)


def test_networks_are_told_with_all_their_subnets(plan: Plan) -> None:
    assert sketch(plan)["networks"] == {
        "lan": {
            "subnet": "10.0.0.0/24",
            "subnets": ["10.0.0.0/24", "fd00::/64"],
            "kind": "bridged",
            "vlan_id": 10,
            "mtu": 1400,
            "external": None,
        },
        "wan": {
            "subnet": "192.0.2.0/24",
            "subnets": ["192.0.2.0/24"],
            "kind": "point-to-point",
            "vlan_id": None,
            "mtu": None,
            "external": None,
        },
        "frames": {
            "subnet": None,
            "subnets": [],
            "kind": "bridged",
            "vlan_id": None,
            "mtu": None,
            "external": None,
        },
    }


def test_machine_is_told_word_for_word(plan: Plan) -> None:
    assert sketch(plan)["machines"]["web"] == {
        "target": "image",
        "settings": None,
        "hostname": "www.shop.example",
        "addresses": {"eth0": "10.0.0.2/24"},
        "loopback": [],
        "image": "debian for web",
        "init": "systemd",
        "roles": ["Nginx"],
        "forward": False,
        "groups": [],
        "after": ["gw"],
        "links": [
            {
                "interface": "eth0",
                "network": "lan",
                "kind": "bridged",
                "address": "10.0.0.2/24",
                "addresses": ["10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24", "fd00::2/64"],
                "gateway": "10.0.0.1",
                "gateways": ["10.0.0.1"],
                "over": [],
                "members": [],
                "asks": [],
                "mac": plan.machines["web"].links[0].mac,
                "masquerade": False,
            },
            {
                "interface": "eth1",
                "network": "frames",
                "kind": "bridged",
                "address": None,
                "addresses": [],
                "gateway": None,
                "gateways": [],
                "over": [],
                "members": [],
                "asks": [],
                "mac": plan.machines["web"].links[1].mac,
                "masquerade": False,
            },
        ],
        "routes": [],
    }


def test_router_is_told_with_its_routes_and_what_stands_on_what(plan: Plan) -> None:
    gw = sketch(plan)["machines"]["gw"]
    assert (gw["image"], gw["init"], gw["forward"]) == (None, None, True)
    assert (gw["roles"], gw["groups"]) == (["Router"], ["routers", "edge"])
    assert gw["routes"] == [
        {"destination": "10.7.0.0/16", "via": "10.0.0.2"},
        {"destination": "fd07::/64", "via": "fd00::2"},
    ]
    told = {link["interface"]: link for link in gw["links"]}
    assert list(told) == ["wan0", "eth0", "lan0"]
    assert told["wan0"]["masquerade"] is True
    assert (told["eth0"]["kind"], told["eth0"]["network"]) == ("trunk", "")
    assert (told["lan0"]["kind"], told["lan0"]["over"]) == ("vlan", ["eth0"])
    assert told["lan0"]["mac"] == "02:00:00:00:00:07"


def test_recalled_plan_is_sketched_as_the_plan_was(plan: Plan) -> None:
    description = json.loads(json.dumps(sketch(plan)))
    assert sketch(recall(description)) == description


def test_recalled_plan_has_values_and_not_their_text(plan: Plan) -> None:
    recalled = recall(sketch(plan))
    assert recalled.layout == "Shop"
    lan = recalled.networks["lan"]
    assert (lan.name, lan.kind, lan.vlan_id, lan.mtu) == ("lan", "bridged", 10, 1400)
    assert [one.network for one in lan.subnets] == [
        ip_network("10.0.0.0/24"),
        ip_network("fd00::/64"),
    ]
    web = recalled.machines["web"]
    assert web.links[0].addresses == tuple(
        map(ip_interface, ("10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24", "fd00::2/64"))
    )
    assert web.links[0].gateway == ip_address("10.0.0.1")
    assert web.image is not None
    assert web.image.name == "debian for web"
    assert (web.init, web.after, web.hostname) == ("systemd", ("gw",), "www.shop.example")
    gw = recalled.machines["gw"]
    assert gw.image is None
    assert [type(role).__name__ for role in gw.roles] == ["Router"]
    assert [(route.destination, route.via) for route in gw.routes] == [
        (ip_network("10.7.0.0/16"), ip_address("10.0.0.2")),
        (ip_network("fd07::/64"), ip_address("fd00::2")),
    ]
    assert recalled.hosts == plan.hosts


def test_link_that_asks_for_its_address_keeps_the_gateway_that_its_network_names() -> None:
    office = Network(
        v4=V4Config(network="10.2.0.0/24", gateway=".1", dhcp_ranges=[(".100", ".199")]),
        v6=V6Config(network="fd02::/64", gateway="::1", slaac=True),
    )
    members: dict[str, Any] = {
        "office": office,
        "gw": Machine(
            links={"eth0": office.at(".1", "::1", v6=V6Config(slaac=False))}, roles=[DhcpServer()]
        ),
        "till": Machine(links={"eth0": office.at(v4=V4Config(dhcp=True))}),
    }
    plan = make_plan(Layout.of("Office", members), targets=TARGETS)
    description = sketch(plan)
    (till,) = description["machines"]["till"]["links"]
    assert till["gateways"] == ["10.2.0.1", "fd02::1"]
    (link,) = recall(description).machines["till"].links
    assert [(str(one.network), str(one.gateway)) for one in link.addressings] == [
        ("10.2.0.0/24", "10.2.0.1"),
        ("fd02::/64", "fd02::1"),
    ]
    assert sketch(recall(description)) == description


@pytest.mark.parametrize("missing", ["layout", "networks", "machines"])
def test_what_is_no_description_of_a_plan_is_a_key_error(plan: Plan, missing: str) -> None:
    description = sketch(plan)
    del description[missing]
    with pytest.raises(KeyError, match=missing):
        recall(description)


_NAMES = st.lists(
    st.from_regex(r"[a-z][a-z0-9_]{0,8}[a-z0-9]", fullmatch=True).filter(
        lambda name: name not in vars(Layout) and not hasattr(Layout, name)
    ),
    min_size=2,
    max_size=6,
    unique=True,
)


@settings(max_examples=40)
@given(data=st.data(), names=_NAMES)
def test_any_plan_comes_back_from_json_as_it_is_drawn(
    data: st.DataObject, names: list[str]
) -> None:
    network_name, *machine_names = names
    network = Network(
        *data.draw(
            st.sampled_from([("10.0.0.0/24",), ("fd00::/64",), ("10.0.0.0/24", "fd00::/64")])
        ),
        mtu=data.draw(st.none() | st.integers(1280, 9000)),
    )
    roles = [(), (Nginx(),), (type("Cache", (Role,), {"groups": ("caches",)})(),)]
    members: dict[str, Any] = {network_name: network}
    claimed = [name.replace("_", "-").strip("-") for name in machine_names]
    assume(len(set(claimed)) == len(claimed))
    earlier: list[str] = []
    for name in machine_names:
        links = {}
        for number in range(data.draw(st.integers(0, 3))):
            addresses = data.draw(st.sampled_from([(), ("auto",), (None,)]))
            hides = data.draw(st.booleans()) if addresses != (None,) else None
            links[f"eth{number}"] = network.at(*addresses, masquerade=hides)
        waits = data.draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
        members[name] = Machine(links=links, roles=data.draw(st.sampled_from(roles)), after=waits)
        earlier.append(name)
    plan = make_plan(Layout.of("Any", members), targets=TARGETS)
    description = sketch(plan)
    recalled = recall(json.loads(json.dumps(description)))
    assert sketch(recalled) == description
    assert recalled.hosts == plan.hosts
    assert [machine.networks for machine in recalled.machines.values()] == [
        machine.networks for machine in plan.machines.values()
    ]


def test_settings_of_a_target_are_told_in_plain_values() -> None:
    vm = Vm(cpus=2, disks=(Disk(name="data", size_mib=64),))
    traits = Traits(root="existing", init=True, outside=False, settings=Vm)
    plan = make_plan(Layout.of("Lab", {"db": Machine(on=vm)}), targets={"libvirt": traits})
    told = json.loads(json.dumps(sketch(plan)))["machines"]["db"]["settings"]
    assert told == {"cpus": 2, "disks": [{"name": "data", "size_mib": 64}]}
    assert recall(sketch(plan)).machines["db"].target == "libvirt"
