"""The snippets of ``docs/how-to/address-plan.md``."""

from __future__ import annotations

from pytest_carthage import (
    Forward,
    Layout,
    LinkContext,
    LinkResolved,
    Machine,
    Network,
    NetworkConfig,
    V4Config,
    V6Config,
    trunk,
)
from pytest_carthage.live.resolved import NetworkEvent
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan


def addresses(plan: Plan) -> dict[str, list[str]]:
    return {
        f"{name}.{link.interface}": [str(address) for address in link.addresses]
        for name, machine in plan.machines.items()
        for link in machine.links
    }


def test_links_inherit_from_their_network() -> None:
    # docs: inherit
    class Office(Layout):
        lan = Network(
            v4=V4Config(
                network="10.0.0.0/24",
                gateway=".1",  # of every link here, but not of the machine that has .1
                pool=(".50", ".99"),  # where "auto" takes from
                dns_servers=[".53"],
                domains=["office.example"],
                external_addresses=[".254"],  # a device that is not part of the layout
            ),
            v6=V6Config(network="fd00:10::/64"),
        )
        router = Machine(links={"lan0": lan.at(".1", "::1")})
        desk = Machine(links={"eth0": lan.at()})  # from the pool, in both families
        printer = Machine(links={"eth0": lan.at(".60", gateway=False)})

    # docs: end
    plan = make_plan(Office)
    assert addresses(plan) == {
        "router.lan0": ["10.0.0.1/24", "fd00:10::1/64"],
        "desk.eth0": ["10.0.0.50/24", "fd00:10::2/64"],
        "printer.eth0": ["10.0.0.60/24"],
    }
    assert [str(machine.links[0].gateway) for machine in plan.machines.values()] == [
        "None",
        "10.0.0.1",
        "None",
    ]


def test_value_is_computed() -> None:
    # docs: computed
    def by_number(link: LinkContext) -> str:
        return f".{100 + int(link.machine.removeprefix('till'))}"

    lan = Network("10.0.0.0/24")
    links = NetworkConfig(eth0=lan.at(by_number))
    Tills = Layout.of(  # noqa: N806
        "Tills", {"lan": lan} | {f"till{n}": Machine(links=links) for n in range(1, 4)}
    )

    # docs: end
    assert addresses(make_plan(Tills)) == {
        "till1.eth0": ["10.0.0.101/24"],
        "till2.eth0": ["10.0.0.102/24"],
        "till3.eth0": ["10.0.0.103/24"],
    }


def test_router_forwards_ports() -> None:
    # docs: forward
    class Site(Layout):
        lan = Network("10.0.0.0/24")
        wan = Network(v4=V4Config(network="203.0.113.0/24", masquerade=True))
        web = Machine(links={"eth0": lan.at(".80", gateway=".1")})
        gw = Machine(
            links={"lan0": lan.at(".1"), "wan0": wan.at(".1")},
            forwards=[Forward("wan0", 8080, to=web, to_port=80)],
        )

    # docs: end
    gw = make_plan(Site).machines["gw"]
    assert gw.forward
    assert [str(one.to) for one in gw.forwards] == ["10.0.0.80"]


def test_kinds_of_links() -> None:
    # docs: kinds
    class Kinds(Layout):
        lan = Network("10.0.0.0/24", vlan_id=10)
        dmz = Network("10.1.0.0/24", vlan_id=20)
        wire = Network("10.2.0.0/31", kind="point-to-point")
        tunnel = Network("10.3.0.0/24", kind="vxlan", vni=42)

        a = Machine(
            links={
                "eth0": trunk(lan, dmz),  # one cable, two networks
                "lan0": lan.at(".1", over="eth0"),
                "dmz0": dmz.at(".1", over="eth0"),
                "wire0": wire.at(),
                "vx0": tunnel.at(".1", over="wire0"),
            }
        )
        b = Machine(
            links={
                "bond0": lan.at(".2", bond=("eth0", "eth1")),
                "dmz0": dmz.at(".2", kind="macvlan"),
                "wire0": wire.at(),
                "vx0": tunnel.at(".2", over="wire0"),
            }
        )

    # docs: end
    assert {link.kind for machine in make_plan(Kinds).machines.values() for link in machine.links}
    assert addresses(make_plan(Kinds))["b.vx0"] == ["10.3.0.2/24"]


def test_subscriber_is_a_function() -> None:
    # docs: subscribe
    def told(event: NetworkEvent) -> None:
        if isinstance(event, LinkResolved):
            print(f"{event.machine}.{event.link.interface} has {event.link.address}")

    class Watched(Layout):
        subscribers = (told,)

        lan = Network("10.0.0.0/24")
        web = Machine(links={"eth0": lan.at()})

    # docs: end
    assert Watched.subscribers == (told,)


def test_machine_sets_its_address_by_itself() -> None:
    # docs: expects
    class Line(Layout):
        lan = Network("10.0.0.0/24")
        router = Machine(links={"lan0": lan.at(None, expects=".1")})  # sets it by itself
        desk = Machine(links={"eth0": lan.at(".2", gateway=".1")})

    # docs: end
    plan = make_plan(Line)
    assert addresses(plan) == {"router.lan0": ["10.0.0.1/24"], "desk.eth0": ["10.0.0.2/24"]}
    assert plan.machines["router"].links[0].addressings[0].configured == ()
