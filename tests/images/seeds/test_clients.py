"""Who asks for a machine's addresses: what its image has for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_carthage import Image, Layout, Machine, Network, V6Config
from pytest_carthage.images.seeds.clients import lacking_client
from pytest_carthage.images.seeds.wiring import wiring_of
from pytest_carthage.planning import make_plan
from pytest_carthage.roles import DhcpServer

SYSTEMD = "usr/lib/systemd/systemd"
NETWORKD = ("usr/lib/systemd/systemd-networkd", "usr/lib/systemd/systemd-udevd")


class Asking(Layout):
    lan = Network("10.0.0.0/24", "fd00::/64")
    advertised = Network(v6=V6Config(network="fd00:1::/64", slaac=True))
    debian = Image.debian("bookworm")
    server = Machine(
        roles=[DhcpServer()],
        links={"eth0": lan.at(".1", "::1"), "eth1": advertised.at("::1", slaac=False)},
    )
    fixed = Machine(debian, links={"eth0": lan.at(".2", "::2")})
    asks = Machine(debian, links={"eth0": lan.at(".3", dhcp=True)})
    asks_6 = Machine(debian, links={"eth0": lan.at("::4", dhcp=True)})
    listens = Machine(debian, links={"eth0": advertised.at()})


def lacking(name: str, folder: Path, *files: str) -> str:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return lacking_client(wiring_of(make_plan(Asking).machines[name]), [folder])


@pytest.mark.parametrize("name", ["fixed", "listens", "asks"])
def test_machine_of_any_image_has_what_needs_no_client_of_its_own(
    tmp_path: Path, name: str
) -> None:
    assert lacking(name, tmp_path) == ""


@pytest.mark.parametrize("name", ["asks", "asks_6"])
def test_machine_with_a_client_asks(tmp_path: Path, name: str) -> None:
    assert lacking(name, tmp_path / "a", SYSTEMD, *NETWORKD) == ""
    assert lacking(name, tmp_path / "b", SYSTEMD, "usr/sbin/ifup", "usr/sbin/dhclient") == ""


@pytest.mark.parametrize("files", [(), (SYSTEMD,), (SYSTEMD, NETWORKD[0]), NETWORKD])
def test_machine_that_nobody_asks_for_by_dhcpv6_is_told(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    assert lacking("asks_6", tmp_path, *files) == (
        "link 'eth0' to network 'lan' asks by DHCPv6, and its image has neither ifupdown nor "
        'systemd-networkd with udev; try: packages=["systemd-sysv", "udev"], or slaac=True'
    )


def test_machine_of_ifupdown_without_a_client_is_told(tmp_path: Path) -> None:
    assert lacking("asks", tmp_path, SYSTEMD, *NETWORKD, "usr/sbin/ifup") == (
        "link 'eth0' to network 'lan' asks by DHCP, and its image has ifupdown without a client; "
        'try: packages=["isc-dhcp-client"]'
    )
