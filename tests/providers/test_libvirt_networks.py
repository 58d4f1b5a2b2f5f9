"""Networks in virtual machines: whoever configures them, what the plan says is so, and stays so.

One machine of each kind is booted, all on the same networks, and the tests of each are in order.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator

import pytest

from pytest_carthage import Image, Layout, Machine, Network, V4Config, V6Config, Vm
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.roles import DhcpServer
from tests.support.layouts import Factories, building

pytestmark = [pytest.mark.real, pytest.mark.emulated, pytest.mark.timeout(900)]

_PACKAGES = ("systemd-sysv", "dbus", "iproute2", "iputils-ping", "python3", "kmod")
#: by who configures the network in them
_GUESTS = {
    "ifupdown": Image.debian(
        "bookworm", packages=[*_PACKAGES, "udev", "ifupdown", "isc-dhcp-client"]
    ).with_(name="ifupdown"),
    "networkd": Image.debian("bookworm", packages=[*_PACKAGES, "udev"]).with_(name="networkd"),
    # nobody could name its links for networkd
    "script": Image.debian("bookworm", packages=_PACKAGES).with_(name="script"),
}
_UNITS = {
    "ifupdown": "networking.service",
    "networkd": "systemd-networkd.service",
    "script": "pytest-carthage-network.service",
}
#: what the script has a client for
_ASK_6 = ("ifupdown", "networkd")
_MTUS = {"more0": 1400, "asked0": 1450}
_NUMBERS = {guest: number for number, guest in enumerate(_GUESTS, 10)}
_LAN = Network("10.35.0.0/24", "fd00:35::/64")
_ASKED = Network("10.36.0.0/24", v6=V6Config(network="fd00:36::/64", slaac=True), mtu=1450)
_MORE = Network("10.37.0.0/24", mtu=1400)
_SIX = Network(v6=V6Config(network="fd00:37::/64"))


def _mac(guest: str) -> str:
    return f"02:00:00:00:35:{_NUMBERS[guest]}"


def _machine(guest: str) -> Machine:
    number = _NUMBERS[guest]
    links = {
        "lan0": _LAN.at(f".{number}", f"::{number}", gateway=".1", mac=_mac(guest)),
        "asked0": _ASKED.at(v4=V4Config(address="auto", dhcp=True)),
        "more0": _MORE.at(f".{number}"),
    }
    if guest in _ASK_6:
        links["six0"] = _SIX.at(f"::{number}", dhcp=True)
    return Machine(
        _GUESTS[guest],
        on=Vm(memory_mib=384),
        links=links,
        loopback=(f"10.255.35.{number}", f"fd00:ff::{number}"),
        forward=True,
        init="systemd",
        ready_timeout_s=500,
    )


class Lab(Layout):
    """Machines on several networks, and one that is their router and gives them addresses."""

    lan = _LAN
    asked = _ASKED
    more = _MORE
    six = _SIX
    ifupdown = _machine("ifupdown")
    networkd = _machine("networkd")
    script = _machine("script")
    near = Machine(
        on="netns",
        links={
            "lan0": lan.at(".1", "::1"),
            "asked0": asked.at(".1", "::1", slaac=False),
            "more0": more.at(".1"),
            "six0": six.at("::1"),
        },
        roles=[DhcpServer(networks=("asked", "six"))],
    )
    far = Machine(on="netns", links={"more0": more.at(".20")})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    kinds: Factories = {"libvirt": LibvirtProvider, "netns": NetnsProvider}
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.closing(Portal()) as portal,
        building(portal, kinds) as build,
    ):
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("networks") / "state"))
        yield build(Lab)


@pytest.fixture(params=list(_GUESTS))
def guest(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def vm(lab: Lab, guest: str) -> MachineHandle:
    return lab[guest]


def _seen(vm: MachineHandle) -> dict[str, tuple[str, int, set[str]]]:
    """Name of each interface to its MAC address, its MTU, and addresses that are not of itself."""
    return {
        row["ifname"]: (
            row["address"],
            row["mtu"],
            {
                f"{each['local']}/{each['prefixlen']}"
                for each in row["addr_info"]
                if each["scope"] == "global"
            },
        )
        for row in json.loads(vm.run("ip -j addr show").stdout)
        if row["ifname"] != "lo"
    }


def _of_loopback(vm: MachineHandle) -> set[str]:
    (row,) = json.loads(vm.run("ip -j addr show dev lo").stdout)
    addresses = {f"{each['local']}/{each['prefixlen']}" for each in row["addr_info"]}
    return addresses - {"127.0.0.1/8", "::1/128"}


def _planned(vm: MachineHandle) -> dict[str, tuple[str, int, set[str]]]:
    return {
        link.interface: (
            str(link.mac),
            _MTUS.get(link.interface, 1500),
            {
                # servers tell no length of a prefix: routers do, see RFC 8415, section 21.6
                f"{own.address.ip}/128"
                if own.dhcp and own.network.version == 6
                else str(own.address)
                for own in link.addressings
                if own.address is not None
            },
        )
        for link in vm.planned.links
    }


def _is_as_planned(vm: MachineHandle) -> None:
    seen: dict[str, tuple[str, int, set[str]]] = {}
    deadline = time.monotonic() + 60
    while (seen := _seen(vm)) != _planned(vm) and time.monotonic() < deadline:
        time.sleep(0.5)  # servers have been asked, and answer when they do
    assert seen == _planned(vm)
    lengths = {4: 32, 6: 128}
    assert _of_loopback(vm) == {f"{own}/{lengths[own.version]}" for own in vm.planned.loopback}
    assert "default via 10.35.0.1 dev lan0" in vm.run("ip route").stdout
    assert "default" not in vm.run("ip -6 route").stdout
    on_six = ("fd00:37::1",) if "six0" in seen else ()
    for address in ("10.35.0.1", "fd00:35::1", "10.36.0.1", "fd00:36::1", "10.37.0.1", *on_six):
        assert _pings(vm, address), address


def _pings(machine: MachineHandle, address: str) -> bool:
    return machine.run(f"ping -c1 -W5 {address}", check=False).ok


def test_interfaces_are_what_the_plan_says(lab: Lab, vm: MachineHandle, guest: str) -> None:
    assert _planned(vm)["lan0"][0] == _mac(guest)
    _is_as_planned(vm)
    assert vm.run(f"systemctl is-active {_UNITS[guest]}").ok
    for other in set(_UNITS) - {guest}:
        assert not vm.run(f"systemctl is-active {_UNITS[other]}", check=False).ok
    for address in vm.planned.links[0].addresses:
        assert _pings(lab["near"], str(address.ip))


def test_machines_reach_each_other_on_every_network(lab: Lab, vm: MachineHandle) -> None:
    for other in _GUESTS:
        for link in lab[other].planned.links:
            if link.interface in _planned(vm):
                for address in link.addresses:
                    assert _pings(vm, str(address.ip)), (other, link.interface)


def test_machine_forwards_to_the_networks_that_it_is_on(
    lab: Lab, vm: MachineHandle, guest: str
) -> None:
    number = _NUMBERS[guest]
    far = lab["far"]
    for target, version in ((f"10.255.35.{number}", 4), ("10.35.0.1", 4)):
        far.run(f"ip -{version} route replace {target} via 10.37.0.{number}")
        assert _pings(far, target), target
    assert vm.run(f"ping -c1 -W5 -I fd00:ff::{number} fd00:35::{number}").ok


def test_frames_are_as_long_as_the_plan_says(vm: MachineHandle) -> None:
    ping = "ping -c1 -W5 -M do -s"
    assert vm.run(f"{ping} {1400 - 28} 10.37.0.1").ok
    assert not vm.run(f"{ping} {1400 - 27} 10.37.0.1", check=False).ok


def test_interface_that_was_pulled_out_and_plugged_in_is_configured_after_a_reboot(
    lab: Lab, vm: MachineHandle, guest: str
) -> None:
    vm.plug_disk("data", size_mib=16)
    link = vm.link("more")
    link.unplug()
    assert "more0" not in _seen(vm)
    assert not _pings(lab["near"], f"10.37.0.{_NUMBERS[guest]}")
    link.plug()
    if guest == "networkd":  # udev tells of it
        _is_as_planned(vm)
    vm.reboot()
    _is_as_planned(vm)
    assert vm.run("grep -q data /sys/block/vd*/serial").ok
    vm.unplug_disk("data")


def test_cable_that_was_cut_for_a_while_has_the_addresses_of_before(vm: MachineHandle) -> None:
    for name in ("lan", "asked"):
        with vm.link(name).down():
            assert vm.read_text(f"/sys/class/net/{name}0/carrier").strip() == "0"
            assert not _pings(vm, {"lan": "10.35.0.1", "asked": "10.36.0.1"}[name])
    _is_as_planned(vm)


# one of them


@pytest.fixture
def one(lab: Lab) -> MachineHandle:
    return lab["networkd"]


def _answers(vm: MachineHandle, times: int) -> int:
    """How many of so many pings to the machine beside it are answered."""
    done = vm.run(f"ping -q -i 0.05 -W 2 -c {times} 10.37.0.1", check=False, timeout_s=100)
    (received,) = re.findall(r"(\d+) received", done.stdout)
    return int(received)


def test_virtual_machine_loses_what_its_cable_loses(one: MachineHandle) -> None:
    with one.link("more").impair(loss_pct=30):
        assert 10 < _answers(one, 100) < 95
    with one.link("more").impair(loss_pct=100):
        assert _answers(one, 20) == 0
    assert _answers(one, 20) == 20


def test_virtual_machine_waits_for_what_its_cable_delays(one: MachineHandle) -> None:
    with one.link("more").impair(delay_ms=300):
        done = one.run("ping -c5 -W5 10.37.0.1")
        assert float(done.stdout.rpartition(" = ")[2].partition("/")[0]) >= 300


def test_machine_whose_reset_button_is_pressed_is_ready_in_another_boot(
    one: MachineHandle,
) -> None:
    boot_id = "/proc/sys/kernel/random/boot_id"
    before = one.read_text(boot_id)
    one.write_text("/srv/kept", "x")
    one.run("sync; echo y > /run/lost")
    one.reset()
    assert one.read_text(boot_id) != before
    assert one.read_text("/srv/kept") == "x"
    assert not one.run("ls /run/lost", check=False).ok
    _is_as_planned(one)


_DATA = "/dev/disk/by-id/virtio-data"


def _write(vm: MachineHandle, text: str) -> None:
    vm.run(f"until [ -b {_DATA} ]; do sleep 0.1; done; echo {text} > {_DATA}; sync", timeout_s=60)


def _written(vm: MachineHandle) -> str:
    drop = "echo 3 > /proc/sys/vm/drop_caches"
    return str(vm.run(f"{drop}; head -n1 {_DATA} | tr -d '\\0'").stdout.strip())


def test_snapshot_has_what_was_plugged_in_and_not_what_was_pulled_out(
    lab: Lab, one: MachineHandle
) -> None:
    one.snapshot("bare")
    one.plug_disk("data", size_mib=16)
    _write(one, "first")
    one.link("more").unplug()
    one.snapshot("plugged")

    _write(one, "second")
    one.link("more").plug()
    _is_as_planned(one)
    one.revert("plugged")
    assert _written(one) == "first"
    assert "more0" not in _seen(one)
    assert not _pings(lab["near"], f"10.37.0.{_NUMBERS['networkd']}")
    one.link("more").plug()
    _is_as_planned(one)

    one.revert("bare")
    _is_as_planned(one)
    assert not one.run("grep data /sys/block/vd*/serial", check=False).ok
    one.plug_disk("data", size_mib=16)
    assert _written(one) == ""
    _write(one, "third")


def test_disk_that_was_pulled_out_is_there_again_with_a_snapshot_that_has_it(
    one: MachineHandle,
) -> None:
    one.snapshot("third")
    one.unplug_disk("data")
    one.plug_disk("data", size_mib=16)
    _write(one, "fourth")
    one.revert("third")
    assert _written(one) == "third"
    one.revert("plugged")
    assert _written(one) == "first"
    one.stop()
    one.start()
    assert _written(one) == "first"
    one.link("more").plug()
    _is_as_planned(one)
