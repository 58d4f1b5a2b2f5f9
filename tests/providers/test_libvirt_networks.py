"""Networks in virtual machines: whoever configures them, what the plan says is so, and stays so.

One machine of each kind is booted, and the tests of it are in order.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, Network, Vm
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.roles import DhcpServer
from tests.support.layouts import building

pytestmark = [pytest.mark.real, pytest.mark.emulated, pytest.mark.timeout(900)]

_PACKAGES = ("systemd-sysv", "dbus", "udev", "iproute2", "iputils-ping", "python3", "kmod")
_GUESTS = {
    "ifupdown": Image.debian(
        "bookworm", packages=[*_PACKAGES, "ifupdown", "isc-dhcp-client"]
    ).with_(name="ifupdown"),
}
_MAC = "02:00:00:00:35:10"


@pytest.fixture(scope="module", params=list(_GUESTS))
def guest(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def lab(guest: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))

    class Lab(Layout):
        """A machine on three networks, and one that is its router and gives it an address."""

        lan = Network("10.35.0.0/24", "fd00:35::/64")
        asked = Network("10.36.0.0/24")
        more = Network("10.37.0.0/24", mtu=1400)
        vm = Machine(
            _GUESTS[guest],
            on=Vm(memory_mib=384),
            links={
                "lan0": lan.at(".10", "::10", gateway=".1", mac=_MAC),
                "asked0": asked.at("auto", dhcp=True),
                "more0": more.at(".10"),
            },
            init="systemd",
            ready_timeout_s=500,
        )
        near = Machine(
            on="netns",
            links={"lan0": lan.at(".1", "::1"), "asked0": asked.at(".1"), "more0": more.at(".1")},
            roles=[DhcpServer(networks=("asked",))],
        )

    kinds: Any = {"libvirt": LibvirtProvider, "netns": NetnsProvider}
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.closing(Portal()) as portal,
        building(portal, kinds) as build,
    ):
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("networks") / "state"))
        yield build(Lab)


@pytest.fixture
def vm(lab: Any) -> MachineHandle:
    machine: MachineHandle = lab.vm
    return machine


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


def _planned(vm: MachineHandle) -> dict[str, tuple[str, int, set[str]]]:
    return {
        link.interface: (
            str(link.mac),
            1400 if link.interface == "more0" else 1500,
            {str(own.address) for own in link.addressings},
        )
        for link in vm.planned.links
    }


def _is_as_planned(vm: MachineHandle) -> None:
    vm.run("until ip -4 addr show dev asked0 | grep -q inet; do sleep 0.2; done", timeout_s=60)
    assert _seen(vm) == _planned(vm)
    assert "default via 10.35.0.1 dev lan0" in vm.run("ip route").stdout
    for address in ("10.35.0.1", "fd00:35::1", "10.36.0.1", "10.37.0.1"):
        assert vm.run(f"ping -c1 -W5 {address}", check=False).ok, address


def test_interfaces_are_what_the_plan_says(vm: MachineHandle, guest: str) -> None:
    assert _planned(vm)["lan0"][0] == _MAC
    _is_as_planned(vm)
    by = {
        "ifupdown": "systemctl is-active networking.service",
    }
    for kind, command in by.items():
        assert vm.run(command, check=False).ok is (kind == guest), kind


def test_interface_that_was_pulled_out_and_plugged_in_is_configured_after_a_reboot(
    lab: Any, vm: MachineHandle
) -> None:
    vm.plug_disk("data", size_mib=16)
    link = vm.link("more")
    link.unplug()
    assert "more0" not in _seen(vm)
    assert not lab.near.run("ping -c1 -W2 10.37.0.10", check=False).ok
    link.plug()
    vm.reboot()
    _is_as_planned(vm)
    assert vm.run("grep -q data /sys/block/vd*/serial").ok
    vm.unplug_disk("data")
