"""What a machine is told of itself, without a machine."""

from __future__ import annotations

import configparser
import dataclasses
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, Network, trunk
from pytest_carthage.images.seeds.process import MainProcess, init_script
from pytest_carthage.images.seeds.seed import make_seed, seed_files
from pytest_carthage.images.seeds.values import FileInSeed, text
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.roles import DhcpServer, Router


class Office(Layout):
    """A router, and servers of each kind behind it."""

    lan = Network("10.1.0.0/24", mtu=1400)
    six = Network("fd00:1::/64")
    wan = Network("192.0.2.0/24")

    debian = Image.debian("bookworm")

    gw = Machine(
        debian,
        roles=[DhcpServer(), Router(masquerade="wan0")],
        links={
            "lan0": lan.at(".1"),
            "six0": six.at("::1"),
            "wan0": wan.at(".1"),
        },
        loopback=["10.255.0.1", "fd00:ff::1"],
    )
    web = Machine(
        debian,
        links={
            "eth0": lan.at(".20", gateway=".1", mac="02:00:00:00:00:20"),
            "eth1": six.at("::20"),
        },
        routes={"198.51.100.0/24": "10.1.0.2"},
    )
    asks = Machine(debian, links={"eth0": lan.at("auto", dhcp=True)})
    listens = Machine(debian, links={"eth0": six.at(slaac=True)})


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Office)


def files_of(plan: Plan, name: str, **changes: Any) -> dict[str, dict[str, FileInSeed]]:
    planned = dataclasses.replace(plan.machines[name], **changes)
    return seed_files(planned, plan, agent="print('agent')")


def content(files: Mapping[str, FileInSeed], path: str) -> str:
    return files[path].data.decode()


def unit(files: Mapping[str, FileInSeed], name: str) -> list[tuple[str, dict[str, str]]]:
    """The sections of a file of systemd's, several of which may have one name."""
    sections: list[tuple[str, dict[str, str]]] = []
    for line in content(files, f"etc/systemd/network/05-carthage-{name}").splitlines():
        if line.startswith("["):
            sections.append((line.strip("[]"), {}))
        elif line:
            key, _, value = line.partition("=")
            sections[-1][1][key] = value
    return sections


# the disk


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            member.name: file.read() if (file := tar.extractfile(member)) else b""
            for member in tar.getmembers()
        }


def test_seed_says_how_long_and_what_it_is(plan: Plan) -> None:
    planned = plan.machines["web"]
    extra = {"etc/hostname": text("mine\n"), "root/.ssh/authorized_keys": text("key\n", 0o600)}
    disk = make_seed(planned, plan, agent="print('agent')", files=extra)
    assert len(disk) % (1 << 20) == 0
    magic, length, digest = disk[:512].split(b"\n")[0].decode().split()
    data = disk[512 : 512 + int(length)]
    assert (magic, digest) == ("carthage-seed-1", hashlib.sha256(data).hexdigest())
    members = unpacked(data)
    assert members["cards"].decode().splitlines() == [
        "02:00:00:00:00:20 eth0",
        f"{planned.links[1].mac} eth1",
    ]
    root = unpacked(members["root.tar"])
    assert root["etc/hostname"] == b"mine\n"  # what is given wins
    assert root["root/.ssh/authorized_keys"] == b"key\n"
    assert root["usr/lib/pytest-carthage/agent.py"] == b"print('agent')"
    assert b"fd00:1::20 web" in root["etc/hosts"]
    subprocess.run(["sh", "-n"], input=members["apply"], check=True)


def test_two_seeds_of_one_machine_share_no_identity(plan: Plan) -> None:
    one, other = files_of(plan, "web"), files_of(plan, "web")
    assert one["root"]["etc/machine-id"] != other["root"]["etc/machine-id"]
    assert len(content(one["root"], "etc/machine-id")) == 33
    keys = [name for name in one["ssh"] if name.endswith("_key")]
    assert keys == ["etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ecdsa_key"]
    for name in keys:
        assert one["ssh"][name].mode == 0o600
        assert one["ssh"][name] != other["ssh"][name]
    first = make_seed(plan.machines["web"], plan, agent="")
    second = make_seed(plan.machines["web"], plan, agent="")
    assert first[:512] != second[:512]


def test_all_scripts_are_ones_that_a_shell_takes(plan: Plan) -> None:
    for name in plan.machines:
        groups = files_of(plan, name, command=("/bin/a b", "it's"), restart="on-failure:3")
        scripts = [
            file.data
            for group in groups.values()
            for file in group.values()
            if file.data.startswith(b"#!")
        ]
        assert len(scripts) == 6
        for script in scripts:
            subprocess.run(["sh", "-n"], input=script, check=True)


# the network


def test_networkd_knows_links_by_their_mac_addresses(plan: Plan) -> None:
    files = files_of(plan, "web")["networkd"]
    assert unit(files, "eth0.link") == [
        ("Match", {"PermanentMACAddress": "02:00:00:00:00:20"}),
        ("Link", {"Name": "eth0"}),
    ]
    sections = unit(files, "eth0.network")
    assert sections[0] == ("Match", {"PermanentMACAddress": "02:00:00:00:00:20"})
    assert sections[1] == ("Link", {"MTUBytes": "1400"})
    assert sections[2][1]["DHCP"] == "no"
    assert sections[2][1]["IPv6AcceptRA"] == "no"
    assert ("Address", {"Address": "10.1.0.20/24"}) in sections
    assert ("Route", {"Gateway": "10.1.0.1"}) in sections
    assert ("Route", {"Gateway": "10.1.0.2", "Destination": "198.51.100.0/24"}) in sections
    six = unit(files, "eth1.network")
    assert ("Address", {"Address": "fd00:1::20/64", "DuplicateAddressDetection": "none"}) in six
    wanted = files["etc/systemd/system/multi-user.target.wants/systemd-networkd.service"]
    assert wanted.target == "/lib/systemd/system/systemd-networkd.service"


_WAIT_ONLINE = "systemd-networkd-wait-online.service"


def test_boot_waits_for_links_that_may_come_up_and_for_no_others(plan: Plan) -> None:
    (link,) = plan.machines["asks"].links
    units = "etc/systemd/system/"
    waits = files_of(plan, "asks")["networkd"]
    assert f"{units}network-online.target.wants/{_WAIT_ONLINE}" in waits
    assert f"{units}{_WAIT_ONLINE}" not in waits
    for links in ((), (dataclasses.replace(link, required=False),)):
        files = files_of(plan, "asks", links=links)["networkd"]
        assert files[f"{units}{_WAIT_ONLINE}"].target == "/dev/null", links


def test_systemd_makes_no_units_for_what_a_virtual_machine_does_not_start_from(
    plan: Plan,
) -> None:
    run = files_of(plan, "asks")["run"]
    folder = "systemd/system-generators/"
    masked = {name.removeprefix(folder) for name in run if name.startswith(folder)}
    assert {run[folder + name].target for name in masked} == {"/dev/null"}
    # others make what an image may well have
    assert "systemd-gpt-auto-generator" in masked
    assert not masked & {
        f"systemd-{name}-generator" for name in ("cryptsetup", "debug", "fstab", "getty", "sysv")
    }


def test_networkd_asks_where_the_plan_does(plan: Plan) -> None:
    asks = unit(files_of(plan, "asks")["networkd"], "eth0.network")
    assert asks[2][1]["DHCP"] == "ipv4"
    assert ("DHCPv4", {"ClientIdentifier": "mac"}) in asks
    listens = unit(files_of(plan, "listens")["networkd"], "eth0.network")
    assert listens[2][1]["IPv6AcceptRA"] == "yes"
    assert listens[2][1]["DHCP"] == "no"


def test_router_forwards_translates_and_has_its_own_addresses(plan: Plan) -> None:
    groups = files_of(plan, "gw")
    files = groups["networkd"]
    assert unit(files, "lan0.network")[2][1]["IPForward"] == "yes"
    lo = content(files, "etc/systemd/network/05-carthage-lo.network")
    assert "Address=10.255.0.1/32\nAddress=fd00:ff::1/128\n" in lo
    assert content(groups["root"], "etc/sysctl.d/50-carthage.conf").splitlines() == [
        "net.ipv4.ip_forward = 1",
        "net.ipv6.conf.all.forwarding = 1",
    ]
    assert 'oifname "wan0"' in content(groups["root"], "usr/lib/pytest-carthage/nat.nft")
    assert "pytest-carthage-nat.service" in "".join(groups["units"])
    others = files_of(plan, "web")
    assert "pytest-carthage-nat.service" not in "".join(others["units"])
    assert "etc/sysctl.d/50-carthage.conf" not in others["root"]


def test_ifupdown_is_told_the_same(plan: Plan) -> None:
    text = content(files_of(plan, "web")["ifupdown"], "etc/network/interfaces")
    lines = [line.strip() for line in text.splitlines()]
    assert "auto eth0" in lines
    assert "up ip addr add 10.1.0.20/24 brd + dev eth0" in lines
    assert "up ip addr add fd00:1::20/64 dev eth1" in lines
    assert "pre-up ip link set eth0 mtu 1400" in lines
    assert "up ip route add default via 10.1.0.1 dev eth0" in lines
    assert "up ip route add 198.51.100.0/24 via 10.1.0.2" in lines
    asks = content(files_of(plan, "asks")["ifupdown"], "etc/network/interfaces")
    assert "iface eth0 inet dhcp" in asks


def test_script_is_told_the_same(plan: Plan) -> None:
    lines = content(files_of(plan, "web")["root"], "usr/lib/pytest-carthage/network").splitlines()
    up, first = (
        lines.index("$ip link set eth0 up"),
        lines.index("$ip route add default via 10.1.0.1 dev eth0"),
    )
    assert lines.index("$ip link set eth0 mtu 1400") < up < first
    assert up < lines.index("$ip addr add 10.1.0.20/24 brd + dev eth0") < first
    asks = content(files_of(plan, "asks")["root"], "usr/lib/pytest-carthage/network")
    assert "udhcpc -b" in asks
    gw = content(files_of(plan, "gw")["root"], "usr/lib/pytest-carthage/network")
    assert "$ip addr add 10.255.0.1/32 dev lo" in gw
    assert "$ip addr add fd00:ff::1/128 dev lo" in gw
    assert "set_ net/ipv4/ip_forward 1" in gw


# what stands on other links


class Stacked(Layout):
    """Interfaces that a kernel makes for itself."""

    office = Network("10.10.0.0/24", vlan_id=10)
    guests = Network("10.20.0.0/24", vlan_id=20)
    sw = Machine(
        Image.debian("bookworm"),
        links={
            "eth0": trunk(office, guests),
            "eth0.10": office.at(".1", over="eth0"),
        },
    )


def test_sub_interfaces_stand_on_their_trunk() -> None:
    plan = make_plan(Stacked)
    groups = files_of(plan, "sw")
    files = groups["networkd"]
    assert unit(files, "eth0.network")[2][1]["VLAN"] == "eth0.10"
    netdev = unit(files, "eth0.10.netdev")
    assert netdev[0][1]["Kind"] == "vlan"
    assert netdev[1] == ("VLAN", {"Id": "10"})
    assert unit(files, "eth0.10.network")[0] == ("Match", {"Name": "eth0.10"})
    script = content(groups["root"], "usr/lib/pytest-carthage/network")
    assert "$ip link add link eth0 name eth0.10 type vlan id 10\n" in script
    interfaces = content(groups["ifupdown"], "etc/network/interfaces")
    assert "    pre-up ip link add link eth0 name eth0.10 type vlan id 10\n" in interfaces
    assert [line.split()[1] for line in _cards(plan.machines["sw"], plan)] == ["eth0"]


def _cards(planned: PlannedMachine, plan: Plan) -> list[str]:
    disk = make_seed(planned, plan, agent="")
    length = int(disk[:512].split()[1])
    return unpacked(disk[512 : 512 + length])["cards"].decode().splitlines()


# the main process


def test_main_process_is_a_unit_where_systemd_is() -> None:
    main = MainProcess(
        argv=("/bin/sh", "-c", 'echo "$A" 100%'),
        env={"A": 'x "y" \\ 5%'},
        user="www:adm",
        workdir="/srv",
        restart="on-failure:3",
        stop_signal="SIGQUIT",
    )
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read_string(main.unit())
    service = parser["Service"]
    assert service["ExecStart"] == r'"/bin/sh" "-c" "echo \"$$A\" 100%%"'
    assert service["Environment"] == r'"A=x \"y\" \\ 5%%"'
    assert (service["User"], service["Group"]) == ("www", "adm")
    assert (service["Restart"], parser["Unit"]["StartLimitBurst"]) == ("on-failure", "3")
    assert (service["KillSignal"], service["WorkingDirectory"]) == ("SIGQUIT", "/srv")


def test_command_that_is_systemd_is_no_main_process(plan: Plan) -> None:
    for command in (("/sbin/init",), None):
        groups = files_of(plan, "web", command=command)
        assert "pytest-carthage-main.service" not in "".join(groups["units"])
    groups = files_of(plan, "web", command=("/bin/true",))
    assert "etc/systemd/system/pytest-carthage-main.service" in groups["units"]


def test_own_init_starts_the_main_process_again_as_often_as_is_asked(tmp_path: Path) -> None:
    """The part of it that does not have to be the first process."""
    main = MainProcess(
        argv=("/bin/sh", "-c", f"echo $A >> {tmp_path}/ran; pwd >> {tmp_path}/ran; exit 3"),
        env={"A": "it's $me"},
        workdir="/usr",
        restart="on-failure:2",
    )
    script = init_script(main)
    part = script[script.index("run_main() {") : script.index("keep &")]
    part = part.replace("/dev/console", "/dev/stderr").replace("/run/carthage", str(tmp_path))
    subprocess.run(["sh", "-c", f"b=\nsay() {{ echo $1; }}\n{part}\nkeep"], check=True)
    assert (tmp_path / "ran").read_text() == "it's $me\n/usr\n" * 3
