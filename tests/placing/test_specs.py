"""A plan as the fabric takes it: every word, and that both ends have the same ones."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from pytest_carthage import (
    Forward,
    Layout,
    Limits,
    Machine,
    Network,
    V4Config,
    V6Config,
    fabric,
    trunk,
)
from pytest_carthage.fabric import spec as words
from pytest_carthage.placing.specs import machine_spec, network_specs
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.traits import Traits
from pytest_carthage.roles import DhcpServer

TARGETS = {"here": Traits(root="host", init=False, outside=False, is_default=True)}


class Shop(Layout):
    """Has one of everything that a fabric can be told."""

    lan = Network("10.0.0.0/24", "fd00::/64", vlan_id=10, mtu=1400)
    dmz = Network(
        v4=V4Config(network="192.0.2.0/24", dns_servers=["192.0.2.53"], domains=["shop.example"]),
        vlan_id=20,
    )
    wire = Network("10.1.0.0/30", kind="point-to-point", ipv6=False)
    office = Network(
        v4=V4Config(network="10.2.0.0/24", gateway=".1", dhcp_ranges=[(".100", ".199")]),
        v6=V6Config(network="fd02::/64", slaac=True),
    )
    tunnel = Network("10.9.0.0/24", kind="vxlan", vni=42)
    pipe = Network("10.8.0.0/30", kind="gre")
    gw = Machine(
        hostname="gw.shop.example",
        roles=[DhcpServer()],
        links={
            "lan0": lan.at(".1", "::1"),
            "dmz0": dmz.at(".1", masquerade=True, mac="02:00:00:00:00:01"),
            "off0": office.at(".1", v6=V6Config(address="::1", slaac=False)),
            "w0": wire.at(".1"),
        },
        routes={"10.7.0.0/16": "10.0.0.7"},
        forwards=[
            Forward("dmz0", 80, to="10.0.0.10", to_port=8080),
            Forward("dmz0", 53, to="db", protocol="udp"),
        ],
    )
    db = Machine(
        links={
            "eth0": lan.at(".10", gateway=".1", metric=50, secondary_addresses=[".11"]),
            "t0": tunnel.at(".10", over="eth0"),
            "p0": pipe.at(".1", over="eth0"),
            "w0": wire.at(".2", gateway=".1", admin_up=False),
        },
        env={"LANG": "C.UTF-8"},
        command=["postgres", "-D", "/data"],
        limits=Limits(memory_mib=256, cpus=0.5),
    )
    web = Machine(
        links={
            "eth0": trunk(lan, dmz),
            "lan0": lan.at(".7", over="eth0"),
            "t0": tunnel.at(".7", over="lan0"),
            "p0": pipe.at(".2", over="lan0"),
            "bond0": lan.at(None, bond=("p1", "p2")),
        },
        command="exec sleep 5",
    )
    till = Machine(
        links={"eth0": office.at(v4=V4Config(dhcp=True))}, routes={"10.3.0.0/16": "10.2.0.1"}
    )
    phone = Machine(links={"eth0": office.at(".7")})


PLAN = make_plan(Shop, targets=TARGETS)


def told(name: str) -> words.MachineSpec:
    return machine_spec(PLAN.machines[name], "process", Path("/run/logs"), "/carthage/shop")


def link(name: str, interface: str) -> words.LinkSpec:
    return next(one for one in told(name)["links"] if one["interface"] == interface)


def test_networks_that_are_bridges_are_told_and_tunnels_are_not() -> None:
    assert network_specs(PLAN) == [
        {"bridge": "br-lan", "mtu": 1400, "kind": "bridged"},
        {"bridge": "br-dmz", "mtu": None, "kind": "bridged"},
        {"bridge": "br-wire", "mtu": None, "kind": "point-to-point"},
        {"bridge": "br-office", "mtu": None, "kind": "bridged"},
    ]


def test_machine_is_told_with_its_files_and_its_group() -> None:
    spec = told("db")
    assert (spec["name"], spec["kind"], spec["hostname"]) == ("db", "process", "db")
    assert spec["log"] == "/run/logs/db.log"
    assert spec["control_group"] == "/carthage/shop/db"
    assert spec["env"] == {"LANG": "C.UTF-8"}
    assert spec["command"] == ["postgres", "-D", "/data"]
    assert spec["limits"] == {"memory_mib": 256, "cpus": 0.5, "pids": None}
    assert told("gw")["hostname"] == "gw.shop.example"


def test_machine_of_few_words_has_none_of_a_command_and_limits() -> None:
    spec = told("till")
    assert (spec["command"], spec["limits"], spec["env"]) == (None, None, {})
    assert (spec["forward"], spec["forwards"]) == (False, [])
    assert told("web")["command"] == ["/bin/sh", "-c", "exec sleep 5"]


@pytest.mark.parametrize("kind", get_args(words.PlaceKind))
def test_kind_of_place_is_the_one_that_is_asked_for(kind: words.PlaceKind) -> None:
    assert machine_spec(PLAN.machines["till"], kind, Path("/"), "")["kind"] == kind


def test_router_forwards_packets_and_ports() -> None:
    spec = told("gw")
    assert spec["forward"] is True
    assert spec["forwards"] == [
        {"interface": "dmz0", "protocol": "tcp", "port": 80, "to": "10.0.0.10", "to_port": 8080},
        {"interface": "dmz0", "protocol": "udp", "port": 53, "to": "10.0.0.10", "to_port": 53},
    ]


def test_ordinary_link_is_told_with_what_does_not_apply_left_empty() -> None:
    assert link("gw", "lan0") == {
        "interface": "lan0",
        "kind": "bridged",
        "bridge": "br-lan",
        "port": "gw-lan0",
        "mac": PLAN.machines["gw"].links[0].mac,
        "mtu": 1400,
        "up": True,
        "addresses": ["10.0.0.1/24", "fd00::1/64"],
        "ipv6": True,
        "accept_ra": False,
        "masquerade": [],
        "over": [],
        "vlan": None,
        "vlans": [],
        "vni": None,
        "local": None,
        "remotes": [],
        "members": [],
    }


def test_link_hides_what_leaves_in_the_families_that_it_has() -> None:
    assert link("gw", "dmz0")["masquerade"] == [4]
    assert link("gw", "dmz0")["mac"] == "02:00:00:00:00:01"


def test_secondary_addresses_are_configured_too() -> None:
    assert link("db", "eth0")["addresses"][:2] == ["10.0.0.10/24", "10.0.0.11/24"]


def test_link_of_a_network_without_ipv6_speaks_none() -> None:
    assert link("gw", "w0")["ipv6"] is False
    assert link("web", "eth0")["ipv6"] is True  # a trunk


def test_link_that_is_down_says_so() -> None:
    assert link("db", "w0")["up"] is False


def test_trunk_has_a_port_for_each_network_that_it_carries() -> None:
    carrying = link("web", "eth0")
    assert (carrying["kind"], carrying["bridge"], carrying["addresses"]) == ("trunk", "", [])
    assert carrying["vlans"] == [
        {"id": 10, "bridge": "br-lan", "port": "web-eth0.10"},
        {"id": 20, "bridge": "br-dmz", "port": "web-eth0.20"},
    ]
    carried = link("web", "lan0")
    assert (carried["kind"], carried["vlan"], carried["over"]) == ("vlan", 10, ["eth0"])


def test_tunnel_runs_between_its_ends() -> None:
    vxlan, gre = link("db", "t0"), link("web", "p0")
    assert (vxlan["kind"], vxlan["vni"], vxlan["local"]) == ("vxlan", 42, "10.0.0.10")
    assert (vxlan["remotes"], vxlan["mtu"]) == (["10.0.0.7"], 1350)
    assert (gre["kind"], gre["vni"], gre["local"]) == ("gre", None, "10.0.0.7")
    assert (gre["remotes"], gre["mtu"]) == (["10.0.0.10"], 1376)


def test_bond_has_a_cable_for_each_member() -> None:
    assert link("web", "bond0")["kind"] == "bond"
    assert link("web", "bond0")["members"] == [
        {"interface": "p1", "port": "web-p1"},
        {"interface": "p2", "port": "web-p2"},
    ]


def test_link_that_asks_is_given_no_address_and_listens_to_routers_where_it_is_to() -> None:
    assert link("till", "eth0")["addresses"] == []
    assert link("phone", "eth0")["addresses"] == ["10.2.0.7/24"]
    assert link("phone", "eth0")["accept_ra"] is True
    assert link("gw", "off0")["accept_ra"] is False


def test_gateway_is_a_default_route_with_its_metric_and_of_links_that_are_up() -> None:
    assert told("db")["routes"] == [
        {
            "destination": None,
            "via": "10.0.0.1",
            "interface": "eth0",
            "metric": 50,
            "onlink": False,
        }
    ]


def test_route_is_found_by_its_next_hop() -> None:
    assert told("gw")["routes"] == [
        {
            "destination": "10.7.0.0/16",
            "via": "10.0.0.7",
            "interface": None,
            "metric": None,
            "onlink": False,
        }
    ]


def test_machine_that_asks_a_server_is_told_its_gateway_there_and_routes_by_the_link() -> None:
    assert told("till")["routes"] == [
        {
            "destination": "10.3.0.0/16",
            "via": "10.2.0.1",
            "interface": "eth0",
            "metric": None,
            "onlink": True,
        }
    ]


def test_resolver_is_told_what_the_links_say() -> None:
    assert told("gw")["resolv"] == "search shop.example\nnameserver 192.0.2.53\n"
    assert told("db")["resolv"] == "# a machine of a sealed layout: no DNS server\n"


@pytest.mark.parametrize("name", list(PLAN.machines))
def test_machine_is_json_that_comes_back_as_it_was(name: str) -> None:
    spec = told(name)
    assert json.loads(json.dumps(spec)) == spec


# both ends


def misfits(value: Any, kind: Any, where: str) -> list[str]:
    """Where a value has other keys than its type."""
    if is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        needed = {key for key, hint in hints.items() if get_origin(hint) is not NotRequired}
        found = [
            f"{where}.{key}" for key in sorted((set(value) - set(hints)) | (needed - set(value)))
        ]
        for key in set(value) & set(hints):
            found += misfits(value[key], hints[key], f"{where}.{key}")
        return found
    if get_origin(kind) is list:
        (item_kind,) = get_args(kind)
        return [
            misfit
            for number, item in enumerate(value)
            for misfit in misfits(item, item_kind, f"{where}[{number}]")
        ]
    choices = [] if value is None else [one for one in get_args(kind) if one is not type(None)]
    return [misfit for choice in choices for misfit in misfits(value, choice, where)]


@pytest.mark.parametrize("name", list(PLAN.machines))
def test_machine_has_the_keys_that_its_words_have_and_no_others(name: str) -> None:
    assert misfits(told(name), words.MachineSpec, name) == []


def test_networks_have_the_keys_that_their_words_have_and_no_others() -> None:
    for network in network_specs(PLAN):
        assert misfits(network, words.NetworkSpec, "network") == []


def test_machine_that_is_elsewhere_has_the_keys_of_all_machines() -> None:
    assert misfits(words.elsewhere("db"), words.MachineSpec, "db") == []
    assert set(words.elsewhere("db")) == set(told("db"))


def test_other_keys_are_seen_wherever_they_are() -> None:
    spec: Any = json.loads(json.dumps(told("gw")))
    del spec["links"][1]["mac"]
    spec["forwards"][0]["colour"] = "red"
    spec["shoes"] = 2
    assert sorted(misfits(spec, words.MachineSpec, "gw")) == [
        "gw.forwards[0].colour",
        "gw.links[1].mac",
        "gw.shoes",
    ]


def keys_read() -> set[str]:
    """Every key by which a module of the fabric looks something up."""
    found = set[str]()
    for path in Path(fabric.__file__).parent.rglob("*.py"):
        if path.name == "spec.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            key: ast.expr | None = None
            if isinstance(node, ast.Subscript):
                key = node.slice
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                key = node.args[0] if node.func.attr == "get" and node.args else None
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                found.add(key.value)
    return found


def test_fabric_reads_every_word_that_it_is_told() -> None:
    kinds = [one for one in vars(words).values() if is_typeddict(one)]
    assert len(kinds) == 10
    read = keys_read()
    unread = [
        f"{kind.__name__}.{key}"
        for kind in kinds
        for key in get_type_hints(kind)
        if key not in read
    ]
    assert unread == []
