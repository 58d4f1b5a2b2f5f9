"""Every mistake in a declaration: its message, word for word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Declare = Callable[[str], dict[str, object]]
Refused = Callable[[str], str]

LONG = "a" * 64


@pytest.mark.parametrize(
    ("member", "message"),
    [
        pytest.param(
            'Network("10.0.0.1/24")',
            "subnet '10.0.0.1/24' has host bits set; declared at conftest.py:2;"
            ' try: Network("10.0.0.0/24")',
            id="host bits",
        ),
        pytest.param(
            'Network("10.0.0/24")',
            "'10.0.0/24' is not a subnet; declared at conftest.py:2; try: Network(\"10.0.0.0/24\")",
            id="no subnet",
        ),
        pytest.param(
            "Network(10)",
            "subnet 10 is not text and not an ipaddress network; declared at conftest.py:2;"
            ' try: Network("10.0.0.0/24")',
            id="wrong type",
        ),
        pytest.param(
            'Network("127.0.0.0/8")',
            "subnet 127.0.0.0/8 is for loopback addresses only; declared at conftest.py:2;"
            ' try: an ordinary subnet, such as Network("10.0.0.0/24")',
            id="loopback",
        ),
        pytest.param(
            'Network("0.0.0.0/0")',
            "subnet 0.0.0.0/0 has addresses that no machine can have: those of 0.0.0.0/8;"
            ' declared at conftest.py:2; try: an ordinary subnet, such as Network("10.0.0.0/24")',
            id="everything",
        ),
        pytest.param(
            'Network("::/64")',
            "subnet ::/64 has addresses that no machine can have: those of ::/127;"
            ' declared at conftest.py:2; try: an ordinary subnet, such as Network("fd00::/64")',
            id="with the loopback address",
        ),
        pytest.param(
            'Network("224.0.0.0/24")',
            "subnet 224.0.0.0/24 is for multicast addresses only; declared at conftest.py:2;"
            ' try: an ordinary subnet, such as Network("10.0.0.0/24")',
            id="multicast",
        ),
        pytest.param(
            'Network("10.0.0.0/24", mtu=12)',
            "mtu 12 is not a number from 576 to 65535; declared at conftest.py:2;"
            " try: mtu=1500, or leave it out",
            id="mtu",
        ),
    ],
)
def test_network_that_is_wrong_is_refused(refused: Refused, member: str, message: str) -> None:
    source = f"class Shop(Layout):\n    lan = {member}"
    assert refused(source) == f"network 'lan' of layout 'Shop': {message}"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            'Image.debian("Bookworm!")',
            "'Bookworm!' is not the name of a suite; declared at conftest.py:2;"
            ' try: Image.debian("bookworm")',
        ),
        (
            'Image.debian("bookworm", packages=["git", "no such"])',
            "'no such' is not the name of a Debian package; declared at conftest.py:2;"
            ' try: packages=["iproute2", "python3"]',
        ),
        (
            'Image.debian("bookworm", packages=7)',
            "7 is not the name of a Debian package; declared at conftest.py:2;"
            ' try: packages=["iproute2", "python3"]',
        ),
        (
            'Image.oci("a b")',
            "'a b' is not an image reference; declared at conftest.py:2;"
            ' try: Image.oci("localhost/name:tag")',
        ),
        (
            'Image.oci("--privileged")',
            "'--privileged' is not an image reference; declared at conftest.py:2;"
            ' try: Image.oci("localhost/name:tag")',
        ),
    ],
)
def test_image_that_is_wrong_is_refused(refused: Refused, member: str, message: str) -> None:
    source = f"class Shop(Layout):\n    debian = {member}"
    assert refused(source) == f"image 'debian' of layout 'Shop': {message}"


LAN = """
class Shop(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")
    gw = Machine(links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")})
    web = MACHINE
"""


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        pytest.param(
            'Machine(links={"eth0": lan.at("10.0.0.1")})',
            "address '10.0.0.1' of interface 'eth0' is taken by machine 'gw' in network 'lan';"
            ' declared at conftest.py:5; try: "10.0.0.2", or "auto"',
            id="duplicate address",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at("10.1.0.7")})',
            "address '10.1.0.7' of interface 'eth0' is outside network 'lan' (10.0.0.0/24);"
            ' declared at conftest.py:5; try: address "10.0.0.2"',
            id="address outside",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at("fd00::1")})',
            "address fd00::1 of interface 'eth0' is of IPv6, of which network 'lan' has no subnet;"
            " declared at conftest.py:5; try: another subnet in lan = Network(...)",
            id="other family",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(".0")})',
            "address '.0' of interface 'eth0' is the network's own address in network 'lan'"
            ' (10.0.0.0/24); declared at conftest.py:5; try: address "10.0.0.2"',
            id="network address",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(".255")})',
            "address '.255' of interface 'eth0' is the broadcast address of network 'lan'"
            ' (10.0.0.0/24); declared at conftest.py:5; try: address "10.0.0.2"',
            id="broadcast address",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(".1.2.3.4")})',
            "address '.1.2.3.4' of interface 'eth0' is outside network 'lan' (10.0.0.0/24);"
            ' declared at conftest.py:5; try: address "10.0.0.2"',
            id="whole address after a dot",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at("ten")})',
            "address 'ten' of interface 'eth0' is not an address in network 'lan'"
            ' (10.0.0.0/24); declared at conftest.py:5; try: address "10.0.0.2"',
            id="no address",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(".300")})',
            "address '.300' of interface 'eth0' is not an address in network 'lan'"
            ' (10.0.0.0/24); declared at conftest.py:5; try: address "10.0.0.2"',
            id="no byte",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(7)})',
            "address 7 of interface 'eth0' is not text and not an ipaddress address;"
            ' declared at conftest.py:5; try: address "10.0.0.2"',
            id="address of a wrong type",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(".7", gateway=".9")})',
            "gateway '10.0.0.9' of interface 'eth0' is nobody's address in network 'lan';"
            " declared at conftest.py:5;"
            " try: the address of another machine there: 10.0.0.1 (gw)",
            id="gateway nobody has",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(".7", gateway="192.0.2.1")})',
            "gateway '192.0.2.1' of interface 'eth0' is outside network 'lan' (10.0.0.0/24);"
            " declared at conftest.py:5; try: 10.0.0.1 (gw)",
            id="gateway outside",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(".7", gateway=".7")})',
            "gateway '10.0.0.7' of interface 'eth0' is the machine's own address;"
            " declared at conftest.py:5;"
            " try: the address of another machine there: 10.0.0.1 (gw)",
            id="gateway itself",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(None, gateway=".1")})',
            "gateway '10.0.0.1' of interface 'eth0' is of no use without an address of its own;"
            ' declared at conftest.py:5; try: an address, such as "auto"',
            id="gateway without address",
        ),
        pytest.param(
            'Machine(links={"a": lan.at(gateway=".1"), "b": dmz.at(gateway=".1")})',
            "there are 2 default routes: 10.0.0.1 (gateway of 'a'), 192.0.2.1 (gateway of 'b');"
            " declared at conftest.py:5;"
            " try: one gateway=, gateway=False on the others, and routes={...} for what lies"
            " behind them; or a metric= for each",
            id="two default routes",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at(mac="01:00:00:00:00:01")})',
            "mac '01:00:00:00:00:01' is not a unicast hardware address (interface 'eth0');"
            ' declared at conftest.py:5; try: mac="02:00:00:00:00:01", or leave it out',
            id="multicast mac",
        ),
        pytest.param(
            'Machine(links={"a": lan.at(mac="02-00-00-00-00-01"),'
            ' "b": lan.at(mac="02:00:00:00:00:01")})',
            "mac '02:00:00:00:00:01' of interface 'b' is taken by machine 'web' in network 'lan'"
            " (declared at conftest.py:5); declared at conftest.py:5; try: another one, or leave"
            " it out",
            id="duplicate mac",
        ),
        pytest.param(
            'Machine(links={"interface-number-1": lan.at()})',
            "interface name 'interface-number-1' has 18 bytes, the kernel takes at most 15;"
            ' declared at conftest.py:5; try: a name such as "eth0"',
            id="interface name too long",
        ),
        pytest.param(
            'Machine(links={"schnittstelleß": lan.at()})',
            "interface name 'schnittstelleß' is one that the kernel refuses or keeps for itself;"
            ' declared at conftest.py:5; try: a name such as "eth0"',
            id="interface name not ASCII",
        ),
        pytest.param(
            'Machine(links={"lo": lan.at()})',
            "interface name 'lo' is one that the kernel refuses or keeps for itself;"
            ' declared at conftest.py:5; try: a name such as "eth0"',
            id="interface lo",
        ),
        pytest.param(
            'Machine(links={"eth/0": lan.at()})',
            "interface name 'eth/0' is one that the kernel refuses or keeps for itself;"
            ' declared at conftest.py:5; try: a name such as "eth0"',
            id="interface name with a slash",
        ),
        pytest.param(
            'Machine(links={"eth0": lan})',
            "interface 'eth0' is Network('10.0.0.0/24') instead of a link;"
            ' declared at conftest.py:5; try: links={"eth0": lan.at(".1")}',
            id="network for a link",
        ),
        pytest.param(
            "Machine(links=[lan.at()])",
            "links=[<NetworkLink to Network('10.0.0.0/24')>] is of a wrong type (list);"
            " declared at conftest.py:5;"
            ' try: links={"eth0": lan.at(".1")}',
            id="links a list",
        ),
        pytest.param(
            'Machine(links={"eth0": Network("10.9.0.0/24").at()})',
            "interface 'eth0' is on network 10.9.0.0/24, which is no member of the layout; its"
            " networks are 'dmz', 'lan'; declared at conftest.py:5;"
            ' try: lan = Network("10.9.0.0/24") in the layout, and a link to that',
            id="foreign network",
        ),
        pytest.param(
            'Machine(hostname="GW")',
            "host name 'gw' is taken by machine 'gw'; declared at conftest.py:5;"
            ' try: hostname="gw-2"',
            id="duplicate host name",
        ),
        pytest.param(
            f'Machine(hostname="{LONG}")',
            f"host name '{LONG}' has 64 characters, the kernel and the DNS take at most 63;"
            ' declared at conftest.py:5; try: hostname="aaaaaaaaaaaa"',
            id="host name too long",
        ),
        pytest.param(
            'Machine(hostname="shop web")',
            "host name 'shop web' is not made of letters, digits and inner hyphens;"
            ' declared at conftest.py:5; try: hostname="shop-web"',
            id="host name invalid",
        ),
        pytest.param(
            'Machine(inventory_hostname="web 1,2")',
            "inventory_hostname 'web 1,2' is not a name that Ansible takes;"
            ' declared at conftest.py:5; try: inventory_hostname="web1.prod.example"',
            id="production's name invalid",
        ),
        pytest.param(
            'Machine(hostname="")',
            'hostname is empty; declared at conftest.py:5; try: hostname="web", or leave it out',
            id="host name empty",
        ),
        pytest.param(
            'Machine(after="database")',
            "after='database': the layout has no such machine, it has 'gw';"
            " declared at conftest.py:5; try: the name of one of them",
            id="after unknown",
        ),
        pytest.param(
            "Machine(after=Machine())",
            "after=<Machine>: this machine is no member of the layout;"
            " declared at conftest.py:5; try: a member, one of 'gw'",
            id="after a foreign machine",
        ),
        pytest.param(
            'Machine(after="web")',
            "after= goes in a circle: 'web' after 'web'; declared at conftest.py:5;"
            " try: leave one of them out",
            id="after itself",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at()}, routes={"10.1.0.1/16": ".1"})',
            "route to '10.1.0.1/16': 10.1.0.1/16 has host bits set;"
            ' declared at conftest.py:5; try: routes={"10.1.0.0/16": ...}',
            id="route with host bits",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at()}, routes={"there": ".1"})',
            "route to 'there': 'there' does not appear to be an IPv4 or IPv6 network;"
            ' declared at conftest.py:5; try: routes={"10.1.0.0/16": ...}'
            ' or routes={"default": ...}',
            id="route to nowhere",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at()}, routes={"10.1.0.0/16": "10.2.0.1"})',
            "next hop '10.2.0.1' of the route to '10.1.0.0/16' is on none of the machine's"
            " networks: 'lan' (10.0.0.0/24); declared at conftest.py:5;"
            " try: the address of another machine on one of them",
            id="next hop outside",
        ),
        pytest.param(
            'Machine(routes={"10.1.0.0/16": "10.2.0.1"})',
            "next hop '10.2.0.1' of the route to '10.1.0.0/16' is on none of the machine's"
            " networks: it has none; declared at conftest.py:5;"
            " try: the address of another machine on one of them",
            id="route without links",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at()}, routes={"10.1.0.0/16": ".9"})',
            "next hop '10.0.0.9' of the route to '10.1.0.0/16' is nobody's address in network"
            " 'lan'; declared at conftest.py:5;"
            " try: the address of another machine there: 10.0.0.1 (gw)",
            id="next hop nobody has",
        ),
        pytest.param(
            'Machine(links={"a": lan.at(), "b": dmz.at()}, routes={"10.1.0.0/16": ".1"})',
            "next hop '.1' of the route to '10.1.0.0/16' can be any of 10.0.0.1 (lan),"
            " 192.0.2.1 (dmz); declared at conftest.py:5; try: the whole address",
            id="next hop ambiguous",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at()}, routes={"fd00::/64": ".1"})',
            "route to 'fd00::/64' via '10.0.0.1' mixes IPv4 and IPv6; declared at conftest.py:5;"
            " try: a next hop of the same kind",
            id="route of two families",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at()}, routes={"0.0.0.0/0": ".1", "default": ".1"})',
            "two routes go to '0.0.0.0/0'; declared at conftest.py:5; try: leave one of them out",
            id="two routes to one place",
        ),
        pytest.param(
            'Machine(links={"eth0": lan.at()}, masquerade="dmz0")',
            "masquerade='dmz0': the machine has no such interface, it has 'eth0';"
            " declared at conftest.py:5; try: the name of one of them",
            id="masquerade unknown",
        ),
        pytest.param(
            'Machine(roles=[Router(masquerade="wan0")])',
            "masquerade='wan0': the machine has no such interface, it has none;"
            " declared at conftest.py:5; try: the name of one of them",
            id="masquerade of a role unknown",
        ),
        pytest.param(
            'Machine("localhost/db")',
            "image='localhost/db' is of a wrong type (str); declared at conftest.py:5;"
            " try: Image.oci('localhost/db')",
            id="image a string",
        ),
        pytest.param(
            "Machine(roles=[Router])",
            "role Router is a class instead of a role; declared at conftest.py:5;"
            " try: roles=[Router()]",
            id="role a class",
        ),
        pytest.param(
            'Machine(roles=["router"])',
            "roles='router' is of a wrong type (str); declared at conftest.py:5;"
            " try: roles=[Router()]",
            id="role a string",
        ),
        pytest.param(
            'Machine(roles=[type("Odd", (Role,), {"packages": ("no such",)})()])',
            "role Odd asks for 'no such', which is no name of a Debian package;"
            ' declared at conftest.py:5; try: packages = ("nginx",) in Odd',
            id="role with a wrong package",
        ),
        pytest.param(
            "Machine(on=1)",
            "on=1 is of a wrong type (int); declared at conftest.py:5; "
            'try: on="the name of a target"',
            id="on of a wrong type",
        ),
        pytest.param(
            "Machine(command=[])",
            'command is empty; declared at conftest.py:5; try: command=["sleep", "infinity"],'
            " or leave it out",
            id="command empty",
        ),
        pytest.param(
            'Machine(command=["sleep", 7])',
            "command=7 is of a wrong type (int); declared at conftest.py:5;"
            ' try: command=["sleep", "infinity"]',
            id="command of a wrong type",
        ),
        pytest.param(
            'Machine(init="openrc")',
            "init 'openrc' is unknown; declared at conftest.py:5;"
            ' try: init="systemd", or leave it out',
            id="init unknown",
        ),
        pytest.param(
            'Machine(init="systemd", command="sleep infinity")',
            "command and init='systemd' exclude each other, each is the main process;"
            " declared at conftest.py:5; try: a systemd unit, or leave one of them out",
            id="init and command",
        ),
        pytest.param(
            'Machine(env={"PORT": 80})',
            "env['PORT']=80 is of a wrong type (int); declared at conftest.py:5;"
            " try: env={'PORT': '80'}",
            id="env of a wrong type",
        ),
        pytest.param(
            'Machine(env={"A=B": "c"})',
            "env has no variable name in 'A=B'; declared at conftest.py:5;"
            ' try: env={"LANG": "C.UTF-8"}',
            id="env name",
        ),
        pytest.param(
            "Machine(variables={1: 2})",
            "variables has a key of a wrong type: 1; declared at conftest.py:5;"
            ' try: variables={"tier": "front"}',
            id="variables key",
        ),
        pytest.param(
            'Machine(forward="yes")',
            "forward='yes' is of a wrong type (str); declared at conftest.py:5; try: forward=True",
            id="forward of a wrong type",
        ),
        pytest.param(
            "Machine(wait_for=80)",
            "wait_for=80 is of a wrong type (int); declared at conftest.py:5;"
            " try: wait_for=[port(80)]",
            id="wait_for a number",
        ),
        pytest.param(
            "Machine(wait_for=port(70000))",
            "wait_for: '70000' is not a port from 1 to 65535; declared at conftest.py:5;"
            " try: wait_for=[port(80)]",
            id="wait_for no port",
        ),
        pytest.param(
            'Machine(wait_for=file("var/x"))',
            "wait_for: path 'var/x' does not start with /; declared at conftest.py:5;"
            ' try: file("/var/x")',
            id="wait_for a relative path",
        ),
        pytest.param(
            'Machine(wait_for=unit("--now"))',
            "wait_for: '--now' is not the name of a unit; declared at conftest.py:5;"
            ' try: unit("nginx")',
            id="wait_for no unit",
        ),
        pytest.param(
            'Machine(wait_for=log(""))',
            "wait_for: log of what? It is ''; declared at conftest.py:5; try: wait_for=[port(80)]",
            id="wait_for nothing",
        ),
        pytest.param(
            "Machine(ready_timeout_s=0)",
            "ready_timeout_s 0 is not a positive number; declared at conftest.py:5;"
            " try: ready_timeout_s=60",
            id="timeout zero",
        ),
        pytest.param(
            'Machine(ready_timeout_s="1m")',
            "ready_timeout_s='1m' is of a wrong type (str); declared at conftest.py:5;"
            " try: ready_timeout_s=60",
            id="timeout of a wrong type",
        ),
        pytest.param(
            "Machine(limits=Limits(memory_mib=-1))",
            "limit memory_mib=-1 is not a positive number; declared at conftest.py:5;"
            " try: limits=Limits(memory_mib=256)",
            id="limit negative",
        ),
        pytest.param(
            "Machine(limits=256)",
            "limits=256 is of a wrong type (int); declared at conftest.py:5;"
            " try: limits=Limits(memory_mib=256)",
            id="limits a number",
        ),
        pytest.param(
            'Machine(groups="web-servers")',
            "group 'web-servers' is not a name that Ansible takes; declared at conftest.py:5;"
            ' try: groups=["web_servers"]',
            id="group",
        ),
    ],
)
def test_machine_that_is_wrong_is_refused(refused: Refused, machine: str, message: str) -> None:
    assert refused(LAN.replace("MACHINE", machine)) == (
        f"machine 'web' of layout 'Shop': {message}"
    )


def test_machines_that_wait_for_each_other_are_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            a = Machine(after="c")
            b = Machine(after="a")
            c = Machine(after="b")
    """
    assert refused(source) == (
        "machine 'a' of layout 'Shop': after= goes in a circle: 'a' after 'c' after 'b' after"
        " 'a'; declared at conftest.py:2; try: leave one of them out"
    )


def test_machine_on_overlapping_networks_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            all = Network("10.0.0.0/8")
            gw = Machine(links={"lan0": lan.at(".1"), "all0":
                                all.at("10.3.3.3")})
    """
    assert refused(source) == (
        "machine 'gw' of layout 'Shop': interface 'lan0' is on network 'lan' (10.0.0.0/24) and"
        " interface 'all0' on network 'all' (10.0.0.0/8), which overlap; declared at"
        " conftest.py:5; try: networks with different addresses, or a machine between them"
    )


def test_machine_on_the_network_of_another_layout_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24")

        class Bank(Layout):
            lan = Network("10.0.0.0/24")
            web = Machine(links={"eth0": Shop.lan.at()})
    """
    assert refused(source) == (
        "machine 'web' of layout 'Bank': interface 'eth0' is on network 'lan' 10.0.0.0/24, which"
        " is no member of the layout; its networks are 'lan'; declared at conftest.py:6;"
        ' try: lan = Network("10.0.0.0/24") in the layout, and a link to that'
    )


def test_network_that_is_full_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/30")
            for i in range(3):
                locals()[f"m{i}"] = Machine(links={"eth0": lan.at()})
    """
    assert refused(source) == (
        "machine 'm2' of layout 'Shop': interface 'eth0': no address is left in network 'lan'"
        " (10.0.0.0/30) for 'auto'; taken: 10.0.0.1 (m0), 10.0.0.2 (m1);"
        " declared at conftest.py:4; try: a larger network"
    )


def test_gateway_in_an_empty_network_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            web = Machine(links={"eth0": lan.at(".2", gateway=".1")})
    """
    assert refused(source) == (
        "machine 'web' of layout 'Shop': gateway '10.0.0.1' of interface 'eth0' is nobody's"
        " address in network 'lan'; declared at conftest.py:3;"
        " try: a machine with address 10.0.0.1 in network 'lan',"
        ' or external_addresses=["10.0.0.1"] in its V4Config'
    )


@pytest.mark.parametrize("name", ["add", "machines", "target", "folder"])
def test_member_with_a_name_of_layout_itself_is_refused(refused: Refused, name: str) -> None:
    assert refused(f"class Shop(Layout):\n    {name} = Machine()") == (
        f"machine {name!r} of layout 'Shop': a member cannot be called {name!r}, layouts use"
        f" that name themselves; declared at conftest.py:2; try: machine_{name} = ..."
    )


def test_private_member_is_refused(refused: Refused) -> None:
    assert refused("class Shop(Layout):\n    _lan = Network('10.0.0.0/8')") == (
        "network '_lan' of layout 'Shop': a member cannot be called '_lan', layouts use that"
        " name themselves; declared at conftest.py:2; try: network_lan = ..."
    )


def test_plain_value_that_hides_part_of_layout_is_refused(refused: Refused) -> None:
    assert refused("class Shop(Layout):\n    name = 'shop'") == (
        "layout 'Shop': member 'name' hides what every layout has; declared at conftest.py:1;"
        " try: my_name = ..."
    )


def test_declaration_without_parentheses_is_refused(refused: Refused) -> None:
    assert refused("class Shop(Layout):\n    web = Machine") == (
        "layout 'Shop': member 'web' is the class Machine instead of a declaration;"
        " declared at conftest.py:1; try: web = Machine(...)"
    )


def test_target_of_a_wrong_type_is_refused(refused: Refused) -> None:
    assert refused("class Shop(Layout):\n    target = 7") == (
        "layout 'Shop': target 7 is not the name of a target; declared at conftest.py:1;"
        ' try: target = "the name of a target"'
    )


def test_network_under_two_names_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            office = lan
    """
    assert refused(source) == (
        "network 'office' of layout 'Shop': this network is called 'lan' already;"
        " declared at conftest.py:2; try: one name for it, or another Network('10.0.0.0/24')"
    )


def test_machine_name_that_is_no_host_name_is_refused(refused: Refused) -> None:
    assert refused("Layout.of('Shop', {'kühl': Machine()})") == (
        "machine 'kühl' of layout 'Shop': the machine's name has other characters than"
        " A-Z a-z 0-9 _ . -; declared at conftest.py:1; try: a name such as 'web-1'"
    )


def test_machine_name_that_is_too_long_is_refused(refused: Refused) -> None:
    assert refused(f"Layout.of('Shop', {{'{LONG}': Machine()}})") == (
        f"machine '{LONG}' of layout 'Shop': the machine's name has 64 characters, at most 63"
        " are possible; declared at conftest.py:1; try: a name such as 'web-1'"
    )


def test_removing_what_is_not_there_is_refused(refused: Refused) -> None:
    assert refused("class Shop(Layout, without=['web']):\n    pass") == (
        "layout 'Shop': without='web': there is no such member; declared at conftest.py:1;"
        " try: the name of a member"
    )


def test_removing_a_machine_that_others_wait_for_is_refused(refused: Refused) -> None:
    source = """
        class Shop(Layout):
            db = Machine()
            web = Machine(after=[db])

        class Small(Shop):
            db = None
    """
    assert refused(source) == (
        "machine 'web' of layout 'Small': after='db': the layout has no such machine, it has"
        " none; declared at conftest.py:3; try: the name of one of them"
    )


def test_line_of_a_call_that_spans_lines_is_the_line_of_the_part_that_is_wrong(
    refused: Refused,
) -> None:
    source = """
        class Shop(Layout):
            lan = Network("10.0.0.0/24")
            web = Machine(
                links={
                    "eth0": lan.at(".1"),
                    "eth1": lan.at(".999"),
                },
            )
    """
    assert "declared at conftest.py:6;" in refused(source)


def test_faulty_network_that_is_used_outside_a_layout_is_refused(refused: Refused) -> None:
    assert refused('Network("10.0.0.1/24").subnet') == (
        "network '': subnet '10.0.0.1/24' has host bits set; declared at conftest.py:1;"
        ' try: Network("10.0.0.0/24")'
    )


def test_image_whose_docs_are_neither_there_nor_not_is_refused(refused: Refused) -> None:
    assert refused('class Shop(Layout):\n    box = Image.debian("bookworm", docs=print)') == (
        "image 'box' of layout 'Shop': docs=<built-in function print> is neither True nor False;"
        " declared at conftest.py:2; try: docs=True"
    )


HERE = "means this computer itself, wherever it is asked for (RFC 6761)"


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("localhost", f"host name 'localhost' {HERE}", 'hostname="localhost-1"'),
        (
            "10",
            "host name '10' ends as an address does, and programs take it for one",
            'hostname="10-1"',
        ),
        (
            "xn--a",
            "host name 'xn--a' has 'xn--a', which is no word in Punycode (RFC 3492)",
            'hostname="xn--a-1"',
        ),
        (
            "web-",
            "the machine's name ends with - or ., or has .. in it, and cannot be looked up",
            "'web'",
        ),
        (
            "web..1",
            "host name 'web..1' is not made of letters, digits and inner hyphens",
            'hostname="web-1"',
        ),
    ],
)
def test_machine_is_not_called_what_means_something_else(
    refused: Refused, name: str, what: str, remedy: str
) -> None:
    assert refused(f"Layout.of('Shop', {{{name!r}: Machine()}})") == (
        f"machine {name!r} of layout 'Shop': {what}; declared at conftest.py:1; try: {remedy}"
    )


def test_machine_called_all_is_there_with_another_name_for_ansible(declare: Declare) -> None:
    declare("Layout.of('Shop', {'all': Machine(inventory_hostname='all-1')})")


@pytest.mark.parametrize("name", ["aio", "portal", "add", "fixture", "plan", "machines", "name"])
def test_member_is_not_called_as_what_every_layout_has(refused: Refused, name: str) -> None:
    assert refused(f"class Shop(Layout):\n    {name} = Machine()") == (
        f"machine {name!r} of layout 'Shop': a member cannot be called {name!r}, layouts use that"
        f" name themselves; declared at conftest.py:2; try: machine_{name} = ..."
    )


@pytest.mark.parametrize("name", ["a/b", "../x", "a b", "\x1b[2J"])
def test_network_has_no_name_that_leads_elsewhere(refused: Refused, name: str) -> None:
    message = refused(f"Layout.of('Shop', {{{name!r}: Network()}})")
    assert "letters, digits and inner _ . -" in message or "is no name of a member" in message
    assert message.endswith(
        ("; try: network_1 = ...", '; try: Layout.of("Shop", {"lan": Network(...)})')
    )


@pytest.mark.parametrize("name", ["a/b", "..", "", "x" * 201, "a b", "\x1b"])
def test_layout_has_no_name_that_leads_elsewhere(refused: Refused, name: str) -> None:
    assert "is no name for a class; declared at conftest.py:1; try: Layout.of(" in refused(
        f"Layout.of({name!r}, {{}})"
    )


def test_name_that_is_endless_is_told_in_short(refused: Refused) -> None:
    message = refused("Layout.of('Shop', {'web': Machine(links={'eth0': 'x' * 200_000})})")
    assert len(message) < 3000
    assert message.startswith("machine 'web' of layout 'Shop': interface 'eth0' is 'xxx")
