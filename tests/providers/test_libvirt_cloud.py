"""A distribution's cloud image, booted by its own boot loader and configured by cloud-init alone.

It is made as Debian makes them, of Debian's packages, and knows nothing of this project.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, Network, V4Config, Vm
from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.roles import DhcpServer, DnsServer
from tests.support.clouds import make_cloud_image
from tests.support.layouts import building

pytestmark = [pytest.mark.real, pytest.mark.emulated, pytest.mark.timeout(1200)]

#: what Debian's cloud images have had since bookworm; cloud-init chooses the language, and fails
#: where there is none
_CLOUD = Image.debian(
    "bookworm",
    packages=[
        *("cloud-init", "dbus", "iproute2", "iputils-ping", "linux-image-cloud-amd64"),
        *("openssh-server", "procps", "python3", "sudo", "systemd-sysv", "udev"),
        *("netplan.io", "systemd-resolved"),
    ],
    locales=["en_US.UTF-8"],
).with_(name="cloud")
_MTUS = {"more0": 1400, "tun0": 1450}
_MAC = "02:00:00:00:38:10"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's private key, with the public one beside it."""
    path = tmp_path_factory.mktemp("key") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def lab(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    problems = [*LibvirtProvider().check(), *NetnsProvider().check()]
    if problems := problems + check_tools({"debian", "disk"}):
        pytest.skip("; ".join(map(str, problems)))
    folder = tmp_path_factory.mktemp("cloud")
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_STATE", str(folder / "state"))
        disk = folder / "cloud.qcow2"
        make_cloud_image(_CLOUD, disk, portal)

        class Lab(Layout):
            """A machine of a cloud image, and one that is its router and tells it names."""

            lan = Network(
                "10.38.0.0/24",
                "fd00:38::/64",
                v4=V4Config(dns_servers="10.38.0.1", domains="lab.example"),
            )
            asked = Network("10.39.0.0/24")
            more = Network("10.40.0.0/24", mtu=1400)
            tunnel = Network("10.41.0.0/24", kind="vxlan", vni=41)
            vm = Machine(
                Image.cloud(disk, sha256=hashlib.sha256(disk.read_bytes()).hexdigest()),
                on=Vm(memory_mib=768, authorized_keys=(key.with_suffix(".pub").read_text(),)),
                links={
                    "lan0": lan.at(".10", "::10", gateway=".1", mac=_MAC),
                    "asked0": asked.at("auto", dhcp=True),
                    "more0": more.at(".10"),
                    "tun0": tunnel.at(".10", over="lan0"),
                },
                loopback="10.255.38.1",
                forward=True,
                init="systemd",
                ready_timeout_s=300,
            )
            near = Machine(
                on="netns",
                links={
                    "lan0": lan.at(".1", "::1"),
                    "asked0": asked.at(".1"),
                    "more0": more.at(".1"),
                    "tun0": tunnel.at(".1", over="lan0"),
                },
                roles=[DhcpServer(networks=("asked",)), DnsServer(domain="lab.example")],
            )
            far = Machine(
                on="netns",
                links={"more0": more.at(".20")},
                routes={"10.38.0.0/24": "10.40.0.10", "10.255.38.1/32": "10.40.0.10"},
            )

        kinds: Any = {"libvirt": LibvirtProvider, "netns": NetnsProvider}
        with building(portal, kinds) as build:
            yield build(Lab)


@pytest.fixture
def vm(lab: Any) -> MachineHandle:
    machine: MachineHandle = lab.vm
    return machine


def test_it_was_started_by_its_own_loader_and_initrd(vm: MachineHandle) -> None:
    assert vm.read_text("/proc/cmdline").startswith("BOOT_IMAGE=/boot/vmlinuz-")
    assert not vm.run("ls -d /run/carthage /run/initramfs/carthage", check=False).ok
    assert vm.run("cloud-init status --wait", timeout_s=200).stdout.split()[-1] == "done"
    assert not vm.run("systemctl --failed --no-legend").stdout
    assert vm.way == "agent"


def _login(lab: Any, key: Path, user: str, command: str) -> str:
    """What a person's command prints who comes in by ssh, from another machine of the layout."""
    public = lab.vm.read_text("/etc/ssh/ssh_host_ed25519_key.pub").rpartition(" ")[0]
    lab.near.write_text("/run/known_hosts", f"vm {public}\n")
    lab.near.run("umask 077; cat > /run/key", input=key.read_text())
    options = "-o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    options += " -o UserKnownHostsFile=/run/known_hosts -o ConnectTimeout=60"
    done = lab.near.run(f"ssh -F none {options} -i /run/key {user}@vm {command}", timeout_s=100)
    return str(done.stdout.strip())


def test_person_comes_in_by_a_key_as_the_images_own_user_and_as_root(lab: Any, key: Path) -> None:
    assert _login(lab, key, "debian", "id -un") == "debian"
    assert _login(lab, key, "debian", "sudo -n id -un") == "root"
    assert _login(lab, key, "root", "id -un") == "root"


def _interfaces(vm: MachineHandle) -> dict[str, tuple[str, int, set[str]]]:
    """Name of each to its MAC address, its MTU, and addresses that are not of itself."""
    return {
        row["ifname"]: (
            row["address"],
            row["mtu"],
            {f"{a['local']}/{a['prefixlen']}" for a in row["addr_info"] if a["scope"] == "global"},
        )
        for row in json.loads(vm.run("ip -j addr show").stdout)
        if row["ifname"] != "lo"
    }


def _is_as_planned(lab: Any) -> None:
    vm = lab.vm
    assert vm.run("hostname").stdout.strip() == "vm"
    assert vm.read_text("/etc/hostname").strip() == "vm"
    vm.run("until ip -4 addr show dev asked0 | grep -q inet; do sleep 0.2; done", timeout_s=60)
    assert _interfaces(vm) == {
        link.interface: (
            str(link.mac),
            _MTUS.get(link.interface, 1500),
            {str(own.address) for own in link.addressings},
        )
        for link in vm.planned.links
    }
    assert _interfaces(vm)["lan0"][0] == _MAC
    assert "default via 10.38.0.1 dev lan0" in vm.run("ip route").stdout
    for address in ("10.38.0.1", "fd00:38::1", "10.39.0.1", "10.40.0.1", "10.41.0.1"):
        assert vm.run(f"ping -c1 -W5 {address}", check=False).ok, address
    assert lab.near.run("ping -c1 -W5 vm").ok
    for address in ("10.255.38.1", "10.38.0.1"):  # its own, and of who is behind it
        assert lab.far.run(f"ping -c1 -W5 {address}", check=False).ok, address


def test_it_has_the_name_and_the_network_of_the_plan(lab: Any) -> None:
    _is_as_planned(lab)


def test_it_asks_the_name_server_of_the_plan(vm: MachineHandle) -> None:
    # which no file says
    assert vm.run("getent ahostsv4 lan0.near").stdout.split()[0] == "10.38.0.1"
    assert vm.run("getent ahostsv6 lan0.near.lab.example").stdout.split()[0] == "fd00:38::1"
    assert not vm.run("getent hosts nobody.lab.example", check=False).ok


def test_it_has_a_machine_id_and_host_keys_of_its_own(vm: MachineHandle) -> None:
    assert len(vm.read_text("/etc/machine-id").strip()) == 32
    keys = vm.run("cat /etc/ssh/ssh_host_*_key.pub").stdout
    assert keys.count("ssh-ed25519 ") == keys.count("ecdsa-sha2-") == 1
