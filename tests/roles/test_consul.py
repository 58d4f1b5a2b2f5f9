"""Consul of Debian 11: a server, an agent, and a service that both know."""

from __future__ import annotations

import json
import socket
import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_carthage import CreationError, Image, Layout, LayoutError, Machine, Network
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.planning import make_plan
from pytest_carthage.roles import Consul
from tests.providers.conftest import Build

BULLSEYE = Image.debian(
    "bullseye", packages=["iproute2", "python3-minimal", "procps"], name="bullseye"
)


class Cluster(Layout):
    """`app` stands first, and boots systemd, where Consul gives up that knows no address yet."""

    lan = Network("10.0.0.0/24")
    other = Network("10.1.0.0/24")
    app = Machine(
        BULLSEYE,
        init="systemd",
        links={"eth0": other.at(".2"), "eth1": lan.at(".2")},
        roles=[Consul(network="lan")],
    )
    registry = Machine(
        BULLSEYE,
        links={"eth0": other.at(".1"), "eth1": lan.at(".1")},
        roles=[Consul(server=True, network="lan")],
    )


class Three(Layout):
    lan = Network("10.0.0.0/24")
    one = Machine(BULLSEYE, links={"eth0": lan.at(".1")}, roles=[Consul(server=True)])
    two = Machine(BULLSEYE, links={"eth0": lan.at(".2")}, roles=[Consul(server=True)])
    far = Machine(
        BULLSEYE, links={"eth0": lan.at(".3")}, roles=[Consul(server=True, datacenter="far")]
    )
    app = Machine(BULLSEYE, links={"eth0": lan.at(".4")}, roles=[Consul()])


def settings(layout: type[Layout], name: str) -> dict[str, Any]:
    plan = make_plan(layout)
    planned = plan.machines[name]
    standin = SimpleNamespace(
        planned=planned,
        surroundings=SimpleNamespace(plan=plan),
        address=lambda network: str(next(iter(planned.links[-1].addresses)).ip),
    )
    role = cast(Consul, planned.roles[0])
    return role.settings(cast(Any, standin))


def test_servers_expect_each_other_and_agents_know_them() -> None:
    one, app, far = (settings(Three, name) for name in ("one", "app", "far"))
    assert (one["retry_join"], one["bootstrap_expect"], one["server"]) == (["two"], 2, True)
    assert (app["retry_join"], "bootstrap_expect" in app) == (["one", "two"], False)
    assert (far["retry_join"], far["bootstrap_expect"]) == ([], 1)


def test_agents_are_made_after_servers_and_servers_at_once() -> None:
    after = {name: one.after for name, one in make_plan(Three).machines.items()}
    assert after == {"one": (), "two": (), "far": (), "app": ("one", "two", "far")}
    assert list(Three.offering("consul")) == ["one", "two", "far"]


def test_agent_without_a_server_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"its role Consul needs 'consul', which no machine of"):

        class Alone(Layout):
            app = Machine(BULLSEYE, roles=[Consul()])


def test_data_centre_without_a_server_is_told() -> None:
    class Lost(Layout):
        lan = Network("10.0.0.0/24")
        one = Machine(BULLSEYE, links={"eth0": lan.at(".1")}, roles=[Consul(server=True)])
        app = Machine(BULLSEYE, links={"eth0": lan.at(".2")}, roles=[Consul(datacenter="moon")])

    with pytest.raises(CreationError, match=r"data centre 'moon' has no server.*; try: roles="):
        settings(Lost, "app")


def test_name_that_consul_does_not_take_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"datacenter='DC 1' is not made of a-z 0-9 _ -.*; try: "):
        Consul(datacenter="DC 1")


def resolve(machine: MachineHandle, name: str) -> list[str]:
    """Ask the machine's Consul by DNS (RFC 1035)."""
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    question = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, 1, 1)
    with machine.connect(8600, protocol="udp") as sock:
        sock.settimeout(10)
        sock.send(question)
        reply = sock.recv(4096)
    count = struct.unpack(">6H", reply[:12])[3]
    return [socket.inet_ntoa(reply[-4:])] if count == 1 else []


@pytest.mark.real
@pytest.mark.timeout(600)
def test_agent_joins_server_and_both_resolve_a_service(build_containers: Build) -> None:
    live = build_containers(Cluster)
    app, registry = live["app"], live["registry"]
    for machine in (app, registry):
        members = sorted(line.split()[:4] for line in machine.run("consul members").lines[1:])
        assert members == [
            ["app", "10.0.0.2:8301", "alive", "client"],
            ["registry", "10.0.0.1:8301", "alive", "server"],
        ]
    app.run("consul services register -name=web -port=80")
    found = registry.run("consul catalog services").lines
    assert found == ["consul", "web"]
    for machine in (app, registry):
        assert resolve(machine, "web.service.consul") == ["10.0.0.2"]
        assert resolve(machine, "mail.service.consul") == []
    # one that joins later is known to all
    late = Machine(BULLSEYE, links={"eth0": Cluster.lan.at(".9")}, roles=[Consul()])
    live.add(name="late", machine=late)
    assert "late" in registry.run("consul members").stdout
    assert json.loads(app.read_text("/etc/consul.d/carthage.json"))["bind_addr"] == "10.0.0.2"


@pytest.mark.real
@pytest.mark.timeout(600)
def test_servers_find_each_other_and_elect_a_leader(build_containers: Build) -> None:
    live = build_containers(Three)
    peers = live["app"].run("consul operator raft list-peers").lines[1:]
    assert sorted(line.split()[0] for line in peers) == ["one", "two"]
    assert sorted(line.split()[3] for line in peers) == ["follower", "leader"]
    far = live["far"].run("consul operator raft list-peers").lines[1:]
    assert [line.split()[0] for line in far] == ["far"]
