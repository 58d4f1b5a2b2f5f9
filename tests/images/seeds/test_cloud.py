"""What cloud-init is told of a machine."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, V4Config
from pytest_carthage.images.seeds.cloud import make_cloud_seed, network_config
from pytest_carthage.images.seeds.iso import make_iso
from pytest_carthage.images.seeds.values import text
from pytest_carthage.images.seeds.wiring import wiring_of
from pytest_carthage.planning import make_plan

from .test_seed import Office, Stacked


def _read(disk: Path, folder: Path) -> dict[str, bytes]:
    """Its files, as another program reads them."""
    if which("xorriso") is None:
        pytest.skip("no xorriso; try: apt-get install xorriso")
    folder.mkdir()
    argv = ["xorriso", "-osirrox", "on", "-indev", str(disk), "-extract", "/", str(folder)]
    subprocess.run(argv, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    files = {"meta-data": b"a", "user-data": b"x" * 5000, "empty": b""}
    disk = tmp_path / "seed.img"
    disk.write_bytes(make_iso("cidata", files))
    read = _read(disk, tmp_path / "files")
    assert {name.lower().removesuffix("."): data for name, data in read.items()} == files
    told = subprocess.run(
        ["blkid", "-p", "-o", "export", str(disk)], capture_output=True, text=True, check=True
    )
    assert {"LABEL=cidata", "TYPE=iso9660"} <= set(told.stdout.splitlines())


def test_more_files_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="100 files do not fit"):
        make_iso("x", {f"file-{number}": b"" for number in range(100)})


def test_cloud_init_is_told_the_machine(tmp_path: Path) -> None:
    plan = make_plan(Office)
    disk = tmp_path / "seed.img"
    extra = {"etc/motd": text("hello\n")}
    disk.write_bytes(
        make_cloud_seed(
            plan.machines["web"], plan, agent="print('x')", files=extra, authorized_keys=("key a",)
        )
    )
    files = {
        name.lower().rstrip("."): data for name, data in _read(disk, tmp_path / "files").items()
    }
    assert files["user-data"].startswith(b"#cloud-config\n")
    user: dict[str, Any] = json.loads(files["user-data"].partition(b"\n")[2])
    assert user["hostname"] == "web"
    written = {row["path"]: base64.b64decode(row["content"]) for row in user["write_files"]}
    assert written["/usr/lib/pytest-carthage/agent.py"] == b"print('x')"
    assert written["/etc/motd"] == b"hello\n"
    assert b"10.1.0.20 web" in written["/etc/hosts"]
    assert "/etc/machine-id" not in written
    assert b"no DNS server" in written["/usr/lib/pytest-carthage/resolv.conf"]
    assert {"/etc/resolv.conf", "/usr/lib/pytest-carthage/network"}.isdisjoint(written)
    unit, wants = "pytest-carthage-agent.service", "/etc/systemd/system/sysinit.target.wants"
    copy, *commands = user["runcmd"]
    assert copy[-1].startswith("[ -L /etc/resolv.conf ] || cp ")
    assert commands == [
        ["mkdir", "-p", wants],
        ["ln", "-sfn", f"../{unit}", f"{wants}/{unit}"],  # else it is not there at the next boot
        ["systemctl", "daemon-reload"],
        ["systemctl", "start", "--no-block", unit],
    ]
    assert sorted(user["ssh_keys"]) == [
        *("ecdsa_private", "ecdsa_public", "ed25519_private", "ed25519_public")
    ]
    assert user["ssh_authorized_keys"] == ["key a"]
    assert json.loads(files["meta-data"])["local-hostname"] == "web"
    assert json.loads(files["network-config"])["version"] == 2


def test_what_cloud_init_knows_nothing_of_is_done_by_a_script(tmp_path: Path) -> None:
    plan = make_plan(Office)
    disk = tmp_path / "seed.img"
    disk.write_bytes(make_cloud_seed(plan.machines["gw"], plan, agent=None))
    files = _read(disk, tmp_path / "files")
    (data,) = (each for name, each in files.items() if name.lower().startswith("user-data"))
    user: dict[str, Any] = json.loads(data.partition(b"\n")[2])
    written = {
        row["path"]: base64.b64decode(row["content"]).decode() for row in user["write_files"]
    }
    script = written["/usr/lib/pytest-carthage/network"]
    assert "ip addr add 10.255.0.1/32 dev lo\n" in script
    assert "ip addr add fd00:ff::1/128 dev lo\n" in script
    assert "set_ net/ipv4/ip_forward 1\n" in script
    assert "lan0" not in script
    unit = "pytest-carthage-network.service"
    assert "After=network-online.target\n" in written[f"/etc/systemd/system/{unit}"]
    assert ["systemctl", "start", unit] in user["runcmd"]


def test_servers_of_names_are_told_of_each_link() -> None:
    class Named(Layout):
        lan = Network("10.0.0.0/24", v4=V4Config(dns_servers="10.0.0.53", domains="shop.example"))
        vm = Machine(links={"eth0": lan.at(".1", required=False)})
        dns = Machine(links={"eth0": lan.at(".53")})

    config = network_config(wiring_of(make_plan(Named).machines["vm"]))["ethernets"]["eth0"]
    assert config["nameservers"] == {"addresses": ["10.0.0.53"], "search": ["shop.example"]}
    assert config["optional"] is True


def test_network_is_that_of_the_plan() -> None:
    plan = make_plan(Office)
    eth0 = network_config(wiring_of(plan.machines["web"]))["ethernets"]["eth0"]
    assert eth0 == {
        "match": {"macaddress": "02:00:00:00:00:20"},
        "set-name": "eth0",
        "dhcp4": False,
        "dhcp6": False,
        "accept-ra": False,
        "mtu": 1400,
        "addresses": ["10.1.0.20/24"],
        "routes": [
            {"to": "0.0.0.0/0", "via": "10.1.0.1"},
            {"to": "198.51.100.0/24", "via": "10.1.0.2"},
        ],
    }
    assert network_config(wiring_of(plan.machines["asks"]))["ethernets"]["eth0"]["dhcp4"] is True
    vlans = network_config(wiring_of(make_plan(Stacked).machines["sw"]))["vlans"]
    assert vlans["eth0.10"]["id"] == 10
    assert vlans["eth0.10"]["link"] == "eth0"
