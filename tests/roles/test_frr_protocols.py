"""What is read out of the answers of FRR's daemons."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_carthage.errors import TaskError
from pytest_carthage.roles.frr.answers import Answers
from pytest_carthage.roles.frr.protocols import isis, ospf, ospf6
from pytest_carthage.roles.frr.survey import _bgp, _links, _rib, _watchdog


def answers(carriers: dict[str, bool], **told: Any) -> Answers:
    """Answers, with ``_`` in commands for blanks; what is no text is told in JSON."""
    texts = {
        command.replace("_", " "): one if isinstance(one, str) else json.dumps(one)
        for command, one in told.items()
    }
    return Answers(texts, carriers, "r1")


def lsa(router: str, neighbour: str) -> dict[str, Any]:
    """A router LSA that tells of a neighbour on a wire, and of a network."""
    link = {"linkType": "another Router (point-to-point)", "neighborRouterId": neighbour}
    links = {"link0": link, "link1": {"linkType": "Stub Network"}}
    return {"lsaType": "router-LSA", "advertisingRouter": router, "routerLinks": links}


def database(*lsas: dict[str, Any]) -> dict[str, Any]:
    """As FRR 8.4 tells it."""
    return {"routerLinkStates": {"areas": {"0.0.0.0": list(lsas)}}}


def ospf_answers(**changed: Any) -> Answers:
    """Of a router 1.1.1.1 with a neighbour 2.2.2.2 on a wire, and nothing left to do."""
    wire = {"ifUp": True, "ospfEnabled": True, "networkType": "POINTOPOINT"}
    entry = {"nbrState": "Full/-", "ifaceName": "wire:10.0.0.1"}

    told: dict[str, Any] = {
        "show_ip_ospf_json": {"routerId": "1.1.1.1"},
        "show_ip_ospf_interface_json": {
            "interfaces": {
                "wire": wire,
                "lan": {**wire, "networkType": "BROADCAST", "timerPassiveIface": True},
                "lo": {**wire, "networkType": "LOOPBACK"},
            }
        },
        "show_ip_ospf_neighbor_json": {"neighbors": {"2.2.2.2": [entry]}},
        "show_ip_ospf_database_router_json": database(
            lsa("1.1.1.1", "2.2.2.2"), lsa("2.2.2.2", "1.1.1.1")
        ),
    }
    return answers({"wire": True, "lan": True, "lo": True}, **{**told, **changed})


def test_ospf_at_rest_has_nothing_pending() -> None:
    protocol = ospf(ospf_answers())
    assert protocol.active == {"wire"}
    assert protocol.settled == {"wire": 1}
    assert protocol.pending == ()


@pytest.mark.parametrize(
    ("command", "told", "pending"),
    [
        (
            "show_ip_ospf_json",
            {"routerId": "1.1.1.1", "spfTimerDueInMsecs": 7},
            "OSPF: it is about to compute its routes",
        ),
        (
            "show_ip_ospf_neighbor_json",
            {
                "neighbors": {
                    "2.2.2.2": [
                        {
                            "nbrState": "Full/-",
                            "ifaceName": "wire:10.0.0.1",
                            "linkStateRetransmissionListCounter": 2,
                        }
                    ]
                }
            },
            "OSPF with 2.2.2.2 on wire: 2 LSAs are on their way",
        ),
        (
            "show_ip_ospf_neighbor_json",
            {"neighbors": {"2.2.2.2": [{"nbrState": "ExStart/-", "ifaceName": "wire:10.0.0.1"}]}},
            "OSPF with 2.2.2.2 on wire: ExStart/-",
        ),
        (
            "show_ip_ospf_neighbor_json",
            {},
            "OSPF: it still tells of 2.2.2.2, which is no neighbour any more",
        ),
        (
            "show_ip_ospf_database_router_json",
            {},
            "OSPF: it has not told of its neighbour 2.2.2.2 yet",
        ),
    ],
)
def test_ospf_that_is_not_done_says_what_is_left(command: str, told: Any, pending: str) -> None:
    assert pending in ospf(ospf_answers(**{command: told})).pending


def test_neighbour_that_has_not_told_of_it_is_waited_for() -> None:
    told = database(lsa("1.1.1.1", "2.2.2.2"))
    protocol = ospf(ospf_answers(show_ip_ospf_database_router_json=told))
    assert protocol.pending == ("OSPF: its neighbour 2.2.2.2 has not told of it yet",)


def test_passive_interfaces_of_ospf6_and_isis_are_in_the_configuration_alone() -> None:
    six = answers(
        {"lan": True, "wan": True},
        show_ipv6_ospf6_json={"routerId": "1.1.1.1"},
        show_ipv6_ospf6_interface_json={
            name: {"status": "up", "attachedToArea": True, "ospf6InterfaceState": "Waiting"}
            for name in ("lan", "wan")
        },
        show_ipv6_ospf6_neighbor_json={},
        show_ipv6_ospf6_database_router_detail_json={},
        **{"show_running-config_ospf6d": "interface lan\n ipv6 ospf6 passive\nexit\n!\n"},
    )
    assert ospf6(six).active == {"wan"}
    circuits = [
        {"interface": {"name": name, "state": "Up", "type": kind}}
        for name, kind in (("lan", "lan"), ("wan", "p2p"), ("lo", "loopback"), ("off", "lan"))
    ]
    level = answers(
        {"lan": True, "wan": True, "lo": True, "off": False},
        show_isis_summary_json={"areas": [{"levels": [{}, {"id": 2, "spf": "pending"}]}]},
        show_isis_interface_json={"areas": [{"circuits": circuits}]},
        show_isis_neighbor_json={},
        show_isis_hostname="",
        show_isis_database_detail="",
        **{"show_running-config_isisd": "interface lan\n ip router isis x\n isis passive\n!\n"},
    )
    protocol = isis(level)
    assert protocol.active == {"wan"}
    assert protocol.pending == ("IS-IS: it is about to compute its routes",)


def bgp_answers(peer: dict[str, Any], *, carrier: bool = True) -> Answers:
    command = {"default": {"vrfId": 0, "vrfName": "default", "10.0.0.2": peer}}
    return answers(
        {"wan": carrier},
        show_interface_json={"wan": {"ipAddresses": [{"address": "10.0.0.1/30"}]}},
        show_bgp_vrf_all_neighbors_json=command,
    )


GRACEFUL = {
    "gracefulRestart": "advertisedAndReceived",
    "multiprotocolExtensions": {"ipv4Unicast": {"advertisedAndReceived": True}},
}


@pytest.mark.parametrize(
    ("peer", "carrier", "pending"),
    [
        ({"bgpState": "Established"}, True, []),
        ({"bgpState": "Active"}, True, ["BGP with 10.0.0.2: Active"]),
        ({"bgpState": "Active"}, False, []),
        (
            {"bgpState": "Established"},
            False,
            ["bgpd has not noticed that wan, to 10.0.0.2, is down"],
        ),
        ({"bgpState": "Idle", "adminShutDown": True}, True, []),
        (
            {"bgpState": "Established", "messageStats": {"depthOutq": 1}},
            True,
            ["BGP with 10.0.0.2: there are messages in the queue"],
        ),
        (
            {"bgpState": "Established", "neighborCapabilities": GRACEFUL},
            True,
            ["BGP with 10.0.0.2: its first routes of ipv4Unicast have not all come"],
        ),
        (
            {
                "bgpState": "Established",
                "neighborCapabilities": GRACEFUL,
                "gracefulRestartInfo": {"endOfRibRecv": {"ipv4Unicast": True}},
            },
            True,
            [],
        ),
    ],
)
def test_session_is_settled_when_its_first_routes_have_come(
    peer: dict[str, Any], carrier: bool, pending: list[str]
) -> None:
    assert list(_bgp(bgp_answers(peer, carrier=carrier))) == pending


def test_route_that_was_chosen_has_to_be_in_the_kernel() -> None:
    entry = {"protocol": "bgp", "selected": True}
    told = {"default": {"10.1.0.0/24": [entry], "10.2.0.0/24": [{**entry, "installed": True}]}}
    given = answers({}, show_ip_route_vrf_all_json=told, show_ipv6_route_vrf_all_json={})
    assert list(_rib(given)) == ["the route to 10.1.0.0/24 (bgp) is not in the kernel yet"]


def test_link_and_daemon_that_are_down_are_told() -> None:
    given = answers(
        {"wan": False},
        show_interface_json={"wan": {"operationalStatus": "up"}},
        show_watchfrr=" Restart Timeout: 20\n  zebra            Up\n  bgpd             Down\n",
    )
    assert list(_links(given)) == ["zebra has not noticed that wan is down"]
    assert list(_watchdog(given)) == ["bgpd is down"]


def test_answer_that_is_no_json_is_an_error() -> None:
    with pytest.raises(TaskError, match=r"'r1': vtysh 'show beer' gives no JSON: '% Unknown'"):
        answers({}, show_beer="% Unknown").values("show beer")
