from __future__ import annotations

import inspect
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_carthage import Image, Layout, LayoutError, Limits, Machine, Network, V4Config, port
from pytest_carthage.planning import extend_plan, make_plan, plan_station, reduce_plan, waves
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.traits import Traits
from pytest_carthage.roles import Nginx, Postgres, Router

TARGETS = {
    "podman": Traits(root="image", init=True, outside=False, needs="folders"),
    "netns": Traits(root="host", init=True, outside=False, needs="folders", is_default=True),
}


class Shop(Layout):
    lan = Network("10.0.0.0/24", mtu=1400)
    dmz = Network("192.0.2.0/24")
    debian = Image.debian("bookworm", packages=["python3"])
    gw = Machine(
        debian,
        roles=[Router(masquerade="dmz0")],
        links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")},
        groups=["routers"],
    )
    db = Machine(
        debian,
        roles=[Postgres()],
        links={"eth0": lan.at(".10", gateway=".1", mac="02:00:00:00:00:10", mtu=1300)},
        limits=Limits(memory_mib=256),
        variables={"tier": "back"},
    )
    web = Machine(
        debian,
        roles=[Nginx()],
        links={"eth0": dmz.at(".20")},
        routes={"10.0.0.0/24": ".1"},
        wait_for=[port(80)],
        env={"LANG": "C.UTF-8"},
        after=[db],
        init="systemd",
        hostname="www.shop.example",
        inventory_hostname="web1.prod.example",
    )
    probe_1 = Machine(links={"eth0": lan.at()})


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Shop, targets=TARGETS)


def test_networks_have_bridges(plan: Plan) -> None:
    assert [(n.name, n.bridge, str(n.subnet), n.mtu) for n in plan.networks.values()] == [
        ("lan", "br-lan", "10.0.0.0/24", 1400),
        ("dmz", "br-dmz", "192.0.2.0/24", None),
    ]


def test_links_have_addresses_gateways_and_ports(plan: Plan) -> None:
    lan, dmz = plan.machines["gw"].links
    assert (lan.interface, lan.network, lan.bridge, lan.port) == (
        "lan0",
        "lan",
        "br-lan",
        "gw-lan0",
    )
    assert (str(lan.address), lan.gateway, lan.mtu) == ("10.0.0.1/24", None, 1400)
    assert (lan.masquerade, dmz.masquerade) == (False, True)
    (eth0,) = plan.machines["db"].links
    assert (str(eth0.address), eth0.gateway) == ("10.0.0.10/24", ip_address("10.0.0.1"))
    assert (eth0.mac, eth0.mtu) == ("02:00:00:00:00:10", 1300)


def test_machine_keeps_what_was_declared(plan: Plan) -> None:
    web = plan.machines["web"]
    assert (web.hostname, web.init, web.after) == ("www.shop.example", "systemd", ("db",))
    assert (dict(web.env), web.wait_for) == ({"LANG": "C.UTF-8"}, (port(80),))
    (route,) = web.routes
    assert (route.destination, route.via) == (ip_network("10.0.0.0/24"), ip_address("192.0.2.1"))
    assert plan.machines["db"].limits == Limits(memory_mib=256)
    assert dict(plan.machines["db"].variables) == {"tier": "back"}
    assert plan.machines["gw"].groups == ("routers",)
    assert plan.machines["probe_1"].hostname == "probe-1"
    assert plan.machines["probe_1"].inventory_hostname == "probe_1"
    assert plan.machines["web"].inventory_hostname == "web1.prod.example"


def test_router_forwards_and_others_do_not(plan: Plan) -> None:
    assert [name for name, machine in plan.machines.items() if machine.forward] == ["gw"]


def test_image_says_what_its_machine_runs_and_which_roles_are_done() -> None:
    base = Image.debian("bookworm")

    class Mixed(Layout):
        booted = Machine(base.with_(Nginx(), command=["/sbin/init"]))
        serving = Machine(base.with_(command=["serve"]))
        own = Machine(base.with_(command=["/sbin/init"]), command=["other"], roles=[Nginx()])
        contained = Machine(base.with_(command=["/sbin/init"]), on="podman")

    machines = make_plan(Mixed).machines
    assert {name: (one.init, one.command) for name, one in machines.items()} == {
        "booted": ("systemd", None),
        "serving": (None, ("serve",)),
        "own": (None, ("other",)),
        "contained": ("systemd", None),
    }
    image = machines["booted"].image
    assert image is not None
    assert {"dbus", "systemd-sysv", "nginx"} <= image.all_packages
    assert machines["booted"].built_roles == {Nginx().key}
    assert machines["own"].built_roles == frozenset()


def test_images_have_what_roles_and_init_need_and_are_listed_once(plan: Plan) -> None:
    packages = {
        name: machine.image.all_packages for name, machine in plan.machines.items() if machine.image
    }
    assert packages == {
        "gw": {"python3"},
        "db": {"postgresql", "python3"},
        "web": {"dbus", "nginx", "python3", "systemd-sysv"},
    }
    # what machines have in common is built once
    assert len({machine.image.base_key for machine in plan.machines.values() if machine.image}) == 1
    assert set(plan.images) == {m.image.key for m in plan.machines.values() if m.image}


def test_hosts_lists_every_address(plan: Plan) -> None:
    assert plan.hosts == {
        "10.0.0.1": ("gw",),
        "192.0.2.1": ("gw",),
        "10.0.0.10": ("db",),
        "192.0.2.20": ("www.shop.example", "web", "web1.prod.example"),
        "10.0.0.2": ("probe-1", "probe_1"),
    }


def test_waves_follow_after(plan: Plan) -> None:
    assert waves(plan) == [["gw", "db", "probe_1"], ["web"]]


def test_plan_is_the_same_every_time(plan: Plan) -> None:
    assert make_plan(Shop, targets=dict(reversed(TARGETS.items()))) == plan


def test_target_of_a_machine_is_its_own_then_the_options_then_the_layouts_then_by_image() -> None:
    class Mixed(Layout):
        plain = Machine()
        imaged = Machine(Image.oci("localhost/x"))
        own = Machine(Image.oci("localhost/x"), on="ssh")

    class Chosen(Mixed):
        target = "libvirt"

    foreign = Traits(root="existing", init=True, outside=True)
    known = {**TARGETS, "ssh": foreign, "libvirt": foreign}

    def targets(layout: type[Layout], target: str | None) -> list[str]:
        plan = make_plan(layout, target=target, targets=known)
        return [machine.target for machine in plan.machines.values()]

    assert targets(Mixed, None) == ["netns", "netns", "ssh"]
    assert targets(Chosen, None) == ["libvirt", "libvirt", "ssh"]
    assert targets(Chosen, "netns") == ["netns", "netns", "ssh"]


def test_ports_whose_readable_names_are_the_same_are_told_apart() -> None:
    lan = Network("10.0.0.0/24")
    members = {
        "lan": lan,
        "a": Machine(links={"b-c": lan.at()}),
        "a-b": Machine(links={"c": lan.at()}),
        "br": Machine(links={"lan": lan.at()}),
    }
    plan = make_plan(Layout.of("Alike", members))
    ports = [machine.links[0].port for machine in plan.machines.values()]
    assert ports[0] == "a-b-c"
    assert len({*ports, "br-lan"}) == 4


def test_target_over_the_hosts_files_takes_images_where_machines_have_them() -> None:
    class Both(Layout):
        web = Machine(Image.debian("bookworm"), roles=[Nginx()])
        bare = Machine()

    plan = make_plan(Both, target="netns")
    web, bare = plan.machines["web"], plan.machines["bare"]
    assert (web.traits.root, bare.traits.root) == ("image", "host")
    assert (web.traits.init, bare.traits.init) == (True, False)
    assert bare.image is None
    assert web.image is not None
    assert list(plan.images) == [web.image.key]


def message(layout: type[Layout], target: str | None = None) -> str:
    with pytest.raises(LayoutError) as caught:
        make_plan(layout, targets=TARGETS, target=target)
    return str(caught.value).replace(__file__, "here.py")


def line(machine: Machine) -> int:
    return machine.place.line


def test_unknown_target_of_the_option_is_refused() -> None:
    assert message(Shop, target="qemu") == (
        "layout 'Shop': target 'qemu' is unknown; try: one of netns, podman"
    )


def test_unknown_target_of_a_layout_is_refused() -> None:
    class Odd(Shop):
        target = "qemu"

    line = inspect.getsourcelines(Odd)[1]
    assert message(Odd) == (
        f"layout 'Odd': target 'qemu' is unknown; declared at here.py:{line};"
        " try: one of netns, podman"
    )


def test_unknown_target_of_a_machine_is_refused() -> None:
    class Odd(Layout):
        web = Machine(on="qemu")

    assert message(Odd) == (
        "machine 'web' of layout 'Odd': target 'qemu' is unknown;"
        f" declared at here.py:{line(Odd.web)}; try: one of netns, podman"
    )


def test_systemd_over_the_hosts_files_is_refused() -> None:
    class Booted(Layout):
        web = Machine(init="systemd")

    assert message(Booted) == (
        "machine 'web' of layout 'Booted': target 'netns' cannot run systemd: its machines share"
        f" the host's file system; declared at here.py:{line(Booted.web)};"
        ' try: on="netns" with an image, or leave init= out'
    )


def test_podman_without_image_is_refused() -> None:
    assert message(Shop, target="podman") == (
        "machine 'probe_1' of layout 'Shop': target 'podman' needs an image, and the machine has"
        f" none; declared at here.py:{line(Shop.probe_1)};"
        ' try: Machine(Image.debian("bookworm"), ...), or on="netns"'
    )


# Machines that join and leave.


def test_added_machine_gets_what_is_free_and_leaves_the_rest(plan: Plan) -> None:
    till = Machine(Shop.debian, links={"eth0": Shop.lan.at(gateway=".1")}, after="db")
    extended, planned = extend_plan(plan, "till-1", till)
    assert planned == extended.machines["till-1"]
    assert (planned.hostname, planned.target, planned.after) == ("till-1", "netns", ("db",))
    (link,) = planned.links
    assert (str(link.address), link.gateway) == ("10.0.0.3/24", ip_address("10.0.0.1"))
    assert {name: extended.machines[name] for name in plan.machines} == plan.machines
    assert "till-1" not in plan.machines
    assert "10.0.0.3" in extended.hosts
    again, other = extend_plan(extended, "till-2", till)
    assert str(other.links[0].address) == "10.0.0.4/24"
    assert waves(again)[1] == ["web", "till-1", "till-2"]


def test_removed_machine_frees_its_address(plan: Plan) -> None:
    till = Machine(links={"eth0": Shop.lan.at()})
    extended, first = extend_plan(plan, "till", till)
    reduced = reduce_plan(extended, "till")
    assert reduced.machines == plan.machines
    assert extend_plan(reduced, "till", till)[1] == first
    with pytest.raises(KeyError, match="till"):
        reduce_plan(reduced, "till")


def test_machine_that_waited_for_a_removed_one_waits_no_more(plan: Plan) -> None:
    assert waves(reduce_plan(plan, "db")) == [["gw", "web", "probe_1"]]


def test_added_machine_uses_the_target_of_the_plan() -> None:
    class Small(Layout):
        lan = Network("10.0.0.0/24")
        image = Image.debian("bookworm")

    _, planned = extend_plan(make_plan(Small, target="netns"), "a", Machine(Small.image))
    assert planned.target == "netns"


@pytest.mark.parametrize(
    ("name", "machine", "text"),
    [
        ("web", Machine(), "the layout has a machine of this name already"),
        ("WEB", Machine(), "host name 'web' is taken by machine 'web'"),
        ("a b", Machine(), "the machine's name has other characters than A-Z a-z 0-9 _ . -"),
        (
            "x",
            Machine(links={"eth0": Shop.lan.at(".10")}),
            "address '10.0.0.10' of interface 'eth0' is taken by machine 'db' in network 'lan'",
        ),
        (
            "x",
            Machine(links={"eth0": Network("10.7.0.0/24").at()}),
            "interface 'eth0' is on network 10.7.0.0/24, which is no member of the layout;"
            " its networks are 'dmz', 'lan'",
        ),
        (
            "x",
            Machine(links={"eth0": Shop.lan.at(mac="02:00:00:00:00:10")}),
            "mac '02:00:00:00:00:10' of interface 'eth0' is taken by machine 'db' in network 'lan'",
        ),
        (
            "x",
            Machine(after="y"),
            "after='y': the layout has no such machine, it has 'db', 'gw', 'probe_1', 'web'",
        ),
        ("x", Machine(on="qemu"), "target 'qemu' is unknown"),
        ("x", Machine(init="openrc"), "init 'openrc' is unknown"),  # type: ignore[arg-type]
    ],
)
def test_added_machine_that_does_not_fit_is_refused(
    plan: Plan, name: str, machine: Machine, text: str
) -> None:
    with pytest.raises(LayoutError) as caught:
        extend_plan(plan, name, machine)
    place = machine.links["eth0"].place if machine.links else machine.place
    start = f"machine {name!r} of layout 'Shop': {text}; declared at {place}; try: "
    assert place.file == __file__
    assert str(caught.value).startswith(start)


def test_added_machine_on_a_network_that_a_subclass_replaced_is_refused() -> None:
    class Moved(Shop):
        lan = Network("172.16.0.0/24")

    with pytest.raises(LayoutError, match=r"network 'lan' 10\.0\.0\.0/24, which is no member"):
        extend_plan(make_plan(Moved), "x", Machine(links={"eth0": Shop.lan.at()}))
    _, planned = extend_plan(make_plan(Moved), "x", Machine(links={"eth0": Moved.lan.at()}))
    assert planned.links[0].network == "lan"


names = st.lists(
    st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True).filter(lambda n: n not in dir(Layout)),
    unique_by=lambda name: name.rstrip("_"),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50)
@given(machines=names, networks=names, data=st.data())
def test_whatever_the_names_the_kernel_takes_them_and_they_are_unique(
    machines: list[str], networks: list[str], data: st.DataObject
) -> None:
    machines = [name for name in machines if name not in networks]
    declared: dict[str, object] = {
        name: Network(f"10.{number}.0.0/16") for number, name in enumerate(networks)
    }
    lans = [value for value in declared.values() if isinstance(value, Network)]
    for name in machines:
        chosen = data.draw(st.lists(st.sampled_from(lans), max_size=3, unique=True))
        declared[name] = Machine(links={f"interface{n}": lan.at() for n, lan in enumerate(chosen)})
    plan = make_plan(Layout.of("Any", declared))
    links = [link for machine in plan.machines.values() for link in machine.links]
    devices = [n.bridge for n in plan.networks.values()] + [link.port for link in links]
    assert len(set(devices)) == len(devices)
    assert all(0 < len(device.encode()) <= 15 for device in devices)
    assert len({link.mac for link in links}) == len(links)
    assert all(int(link.mac[:2], 16) & 3 == 2 for link in links)
    addresses = [link.address for link in links]
    assert len(set(addresses)) == len(addresses)


def test_station_takes_the_highest_address_and_leaves_auto_alone() -> None:
    class Shop(Layout):
        lan = Network(v4=V4Config(network="10.0.0.0/29", gateway=".1", dhcp_ranges=[(".5", ".6")]))
        gw = Machine(links={"eth0": lan.at(".1")})
        web = Machine(links={"eth0": lan.at(".4")})

    plan = make_plan(Shop)
    stationed, link = plan_station(plan, "lan")
    assert str(link.address) == "10.0.0.3/29"
    assert str(link.gateway) == "10.0.0.1"
    assert plan_station(stationed, "lan") == (stationed, link)
    assert list(stationed.machines) == ["gw", "web"]
    joined, added = extend_plan(stationed, "db", Machine(links={"eth0": Shop.lan.at()}))
    assert str(added.links[0].address) == "10.0.0.2/29"
    with pytest.raises(LayoutError, match=r"no address is left in network 'lan'.*station on lan"):
        extend_plan(joined, "more", Machine(links={"eth0": Shop.lan.at()}))
    with pytest.raises(LookupError, match="has no network 'dmz'; its networks are: lan"):
        plan_station(plan, "dmz")
    with pytest.raises(LookupError, match=r"no address is left in 10\.0\.0\.0/29 for a station"):
        plan_station(_full(plan, Shop.lan), "lan")


def _full(plan: Plan, network: Network) -> Plan:
    for name in ("a", "b"):
        plan, _ = extend_plan(plan, name, Machine(links={"eth0": network.at()}))
    return plan


def test_name_leads_only_to_an_address_that_means_this_machine() -> None:
    class Sites(Layout):
        west = Network("10.0.0.0/24")
        east = Network("10.0.0.0/24")
        world = Network("192.0.2.0/24")
        a = Machine(links={"eth0": west.at(".10")})
        b = Machine(links={"eth0": east.at(".10")})
        c = Machine(links={"eth0": east.at(".11")})
        gw = Machine(links={"lan0": west.at(".1"), "wan0": world.at(".1")})
        server = Machine(links={"eth0": world.at(".80")})

    plan = make_plan(Sites)
    assert plan.has_twins

    def known(name: str) -> dict[str, str]:
        return {
            address: names[0]
            for address, names in plan.hosts_in(plan.machines[name].networks).items()
        }

    far = {"192.0.2.1": "gw", "192.0.2.80": "server"}
    assert known("a") == {"10.0.0.10": "a", "10.0.0.1": "gw", **far}
    assert known("b") == {"10.0.0.10": "b", "10.0.0.11": "c", **far}  # 10.0.0.1 is nobody here
    assert known("gw") == known("a")
    # from outside, 10.0.0.10 could be either
    assert known("server") == {"10.0.0.11": "c", "10.0.0.1": "gw", **far}
    assert "10.0.0.10 b\n" in plan.hosts_file(["east"])


def test_station_has_no_place_on_a_wire_that_is_taken_or_in_a_tunnel() -> None:
    class Wired(Layout):
        wire = Network("10.2.0.0/29", kind="point-to-point")
        tunnel = Network("10.3.0.0/24", kind="vxlan")
        one = Machine(links={"eth0": wire.at(), "vx0": tunnel.at(over="eth0")})
        two = Machine(links={"eth0": wire.at(), "vx0": tunnel.at(over="eth0")})

    plan = make_plan(Wired)
    with pytest.raises(LookupError, match=r"'wire' .* is a wire, whose two ends are at one\.eth0 "):
        plan_station(plan, "wire")
    with pytest.raises(LookupError, match=r"'tunnel' .* is a tunnel of kind 'vxlan', whose ends"):
        plan_station(plan, "tunnel")
    stationed, _ = plan_station(reduce_plan(plan, "two"), "wire")
    with pytest.raises(LayoutError, match=r"two ends already, at station on wire and one\.eth0"):
        extend_plan(stationed, "three", Machine(links={"eth0": Wired.wire.at()}))
