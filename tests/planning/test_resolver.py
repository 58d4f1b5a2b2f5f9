"""What a machine's resolver is told."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, V4Config, V6Config
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import PlannedMachine
from pytest_carthage.planning.resolver import resolv_conf

SILENT = "# a machine of a sealed layout: no DNS server\n"


def planned(*networks: Network) -> PlannedMachine:
    members: dict[str, Any] = {f"n{number}": one for number, one in enumerate(networks)}
    links = {f"eth{number}": one.at() for number, one in enumerate(networks)}
    return make_plan(Layout.of("Shop", {**members, "web": Machine(links=links)})).machines["web"]


def network(number: int, servers: Any = (), domains: Any = ()) -> Network:
    return Network(v4=V4Config(network=f"10.{number}.0.0/24", dns_servers=servers, domains=domains))


def test_machine_without_servers_hears_nothing_and_is_told_why() -> None:
    assert resolv_conf(planned()) == SILENT
    assert resolv_conf(planned(network(0))) == SILENT


def test_domains_are_searched_also_without_a_server() -> None:
    assert resolv_conf(planned(network(0, (), "shop.example"))) == (
        f"search shop.example\n{SILENT}"
    )


def test_servers_and_domains_of_all_links_are_told_in_their_order_each_once() -> None:
    first = network(0, ["10.0.0.53", "192.0.2.53"], ["b.example", "a.example"])
    second = network(1, ["192.0.2.53", "10.1.0.53"], ["a.example", "c.example"])
    assert resolv_conf(planned(first, second)) == (
        "search b.example a.example c.example\n"
        "nameserver 10.0.0.53\nnameserver 192.0.2.53\nnameserver 10.1.0.53\n"
    )


def test_servers_of_both_families_are_told_ipv4_first() -> None:
    both = Network(
        v4=V4Config(network="10.0.0.0/24", dns_servers=["10.0.0.53"]),
        v6=V6Config(network="fd00::/64", dns_servers=["fd00::53"]),
    )
    assert resolv_conf(planned(both)) == "nameserver 10.0.0.53\nnameserver fd00::53\n"


@pytest.mark.parametrize("known", [(), ["10.0.0.53"]])
def test_what_was_learned_comes_after_what_was_planned_and_not_twice(known: list[str]) -> None:
    machine = planned(network(0, known, ["shop.example"]))
    text = resolv_conf(
        machine,
        dns_servers=["10.0.0.99", *known],
        domains=["lan.example", "shop.example"],
    )
    servers = [*known, "10.0.0.99"]
    assert text == "search shop.example lan.example\n" + "".join(
        f"nameserver {one}\n" for one in servers
    )
