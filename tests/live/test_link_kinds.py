"""Link kinds as an author declares them, built and used; or refused before anything is built."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_carthage import HostError, Layout, Machine, Network
from pytest_carthage.fabric.host import capability
from pytest_carthage.model.network import trunk
from pytest_carthage.planning import make_plan
from pytest_carthage.providers.netns import NetnsProvider
from tests.live.conftest import Build

pytestmark = pytest.mark.real


class Dual(Layout):
    lan = Network("10.0.0.0/24", "fd00:1::/64")
    a = Machine(links={"eth0": lan.at(".1", "::1")})
    b = Machine(links={"eth0": lan.at(".2", "::2", metric=5, gateway=".1")})


class Wire(Layout):
    wire = Network("10.0.0.0/30", kind="point-to-point")
    a = Machine(links={"eth0": wire.at(".1")})
    b = Machine(links={"eth0": wire.at(".2")})


class Macvlan(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(links={"eth0": lan.at(".1", kind="macvlan")})
    b = Machine(links={"eth0": lan.at(".2", kind="macvlan")})
    c = Machine(links={"eth0": lan.at(".3")})


class Vxlan(Layout):
    under = Network("192.0.2.0/24")
    lan = Network("10.0.0.0/24", kind="vxlan", vni=42, mtu=1450)
    a = Machine(links={"eth0": under.at(".1"), "vx0": lan.at(".1", over="eth0")})
    b = Machine(links={"eth0": under.at(".2"), "vx0": lan.at(".2", over="eth0")})
    c = Machine(links={"eth0": under.at(".3"), "vx0": lan.at(".3", over="eth0")})


class Gre(Layout):
    under = Network("192.0.2.0/24")
    mgmt = Network("10.0.0.0/30", kind="gre")
    a = Machine(links={"eth0": under.at(".1"), "tun0": mgmt.at(".1", over="eth0")})
    b = Machine(links={"eth0": under.at(".2"), "tun0": mgmt.at(".2", over="eth0")})


class Bond(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(links={"bond0": lan.at(".1", bond=("eth0", "eth1"))})
    b = Machine(links={"eth0": lan.at(".2")})


class Trunk(Layout):
    lan = Network("10.0.0.0/24", vlan_id=10)
    dmz = Network("10.0.1.0/24", vlan_id=4094)
    a = Machine(
        links={
            "eth0": trunk(lan, dmz),
            "lan0": lan.at(".1", over="eth0"),
            "dmz0": dmz.at(".1", over="eth0"),
        }
    )
    b = Machine(links={"eth0": lan.at(".2")})
    c = Machine(links={"eth0": dmz.at(".3")})


def interface(environment: Layout, machine: str, name: str) -> Mapping[str, Any]:
    shown = environment[machine].run(f"ip -j -d address show dev {name}").stdout
    found: Mapping[str, Any] = json.loads(shown)[0]
    return found


def test_dual_stack_answers_on_both(build: Build) -> None:
    environment = build(Dual)
    for address in ("10.0.0.2", "fd00:1::2"):
        assert environment["a"].ping(address) < 1
    routes = environment["b"].run("ip route").stdout
    assert "default via 10.0.0.1 dev eth0 metric 5" in routes


def test_point_to_point_link_loses_its_carrier_with_the_other_end(build: Build) -> None:
    environment = build(Wire)
    assert environment["a"].ping("10.0.0.2") < 1
    environment["b"].stop()
    assert "LOWER_UP" not in interface(environment, "a", "eth0")["flags"]
    environment["b"].start()
    assert "LOWER_UP" in interface(environment, "a", "eth0")["flags"]
    assert environment["a"].ping("10.0.0.2") < 1


#: capability, layout, what is refused, and who answers whom where it is not
_KINDS: list[Any] = [
    ("macvlan", Macvlan, r"link 'eth0' of machine 'a', a macvlan", {"a": "10.0.0.2 10.0.0.3"}),
    ("vxlan", Vxlan, r"network 'lan' of kind vxlan", {"a": "10.0.0.2 10.0.0.3", "b": "10.0.0.3"}),
    ("gre", Gre, r"network 'mgmt' of kind gre", {"a": "10.0.0.2", "b": "10.0.0.1"}),
    ("bond", Bond, r"link 'bond0' of machine 'a', a bond", {"b": "10.0.0.1"}),
    ("vlan", Trunk, r"link 'eth0' of machine 'a', a trunk", {"a": "10.0.0.2 10.0.1.3"}),
]


@pytest.mark.parametrize(("needs", "layout", "who", "answers"), _KINDS)
def test_link_kind_carries_packets_or_is_refused_with_what_lacks(
    build: Build, needs: str, layout: type[Layout], who: str, answers: Mapping[str, str]
) -> None:
    reason = capability.probe([needs])[needs]
    if reason is not None:
        cause = rf"netns: {who}: this kernel cannot .* \(Linux {platform.release()}: {reason}\)"
        with pytest.raises(HostError, match=cause):
            build(layout)
        return
    environment = build(layout)
    for machine, addresses in answers.items():
        for address in addresses.split():
            assert environment[machine].ping(address, timeout_s=3) < 3


@pytest.mark.parametrize(("needs", "layout", "who", "answers"), _KINDS)
def test_plan_that_needs_what_the_kernel_lacks_is_refused_by_the_check(
    monkeypatch: pytest.MonkeyPatch, needs: str, layout: type[Layout], who: str, answers: object
) -> None:
    monkeypatch.setattr(capability, "_known", {needs: "Unknown device type"})
    problems = [str(one) for one in NetnsProvider().check(make_plan(layout))]
    (told,) = [problem for problem in problems if "this kernel cannot" in problem]
    assert told.startswith(f"netns: {who}")
    assert "Debian's own has it" in told


def test_plan_of_plain_links_asks_the_kernel_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "_ask", lambda names: pytest.fail(f"asked for {names}"))
    monkeypatch.setattr(capability, "_known", {})
    for layout in (Dual, Wire):
        NetnsProvider().check(make_plan(layout))
