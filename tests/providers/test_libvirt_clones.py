"""Clones and snapshots of virtual machines: what they share with others, and what never."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, Network
from pytest_carthage.events import Recorder
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from tests.support.layouts import building

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

DEBIAN = Image.debian(
    "bookworm",
    packages=[
        *("systemd-sysv", "dbus", "udev", "iproute2", "iputils-ping", "python3", "kmod"),
        *("openssh-server", "procps", "ca-certificates", "acpid"),
    ],
).with_(name="base")
_WAIT_S = 400


class Twins(Layout):
    lan = Network("10.31.0.0/24")
    one = Machine(
        DEBIAN, on="libvirt", links={"lan0": lan.at(".1")}, init="systemd", ready_timeout_s=_WAIT_S
    )
    two = Machine(
        DEBIAN, on="libvirt", links={"lan0": lan.at(".2")}, init="systemd", ready_timeout_s=_WAIT_S
    )


@pytest.fixture(scope="module")
def events() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory, events: Recorder) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_STATE", str(tmp_path_factory.mktemp("state")))
        provider = LibvirtProvider()
        problems = provider.check(make_plan(Twins, targets={"libvirt": provider.traits}))
        if problems:
            pytest.skip("; ".join(map(str, problems)))
        with building(portal, {"libvirt": lambda: provider}, recorder=events) as build:
            yield build(Twins)


def _of_both(twins: Any, command: str) -> tuple[str, str]:
    return twins.one.run(command).stdout.strip(), twins.two.run(command).stdout.strip()


@pytest.mark.parametrize(
    "command",
    [
        "cat /etc/machine-id",
        "hostname",
        "cat /etc/ssh/ssh_host_*_key.pub",
        "cat /sys/class/net/lan0/address",
        "ip -o -4 addr show dev lan0",
        "cat /proc/sys/kernel/random/boot_id",
        "head -c 32 /dev/urandom | od -An -tx1",
        "python3 -c 'import os; print(os.getrandom(32).hex())'",
        "journalctl --header | grep -m1 'Machine ID'",
    ],
)
def test_clones_have_nothing_of_their_own_in_common(twins: Any, command: str) -> None:
    first, second = _of_both(twins, command)
    assert first
    assert second
    assert first != second


def test_clones_are_what_the_plan_says(twins: Any) -> None:
    for machine in (twins.one, twins.two):
        assert machine.run("hostname").stdout.strip() == machine.name
        planned = machine.planned.links[0]
        assert machine.run("cat /sys/class/net/lan0/address").stdout.strip() == planned.mac
        assert str(planned.address) in machine.run("ip -o addr show dev lan0").stdout
        assert machine.run("cat /etc/hostname").stdout.strip() == machine.name
    ip = "10.31.0.2"
    assert twins.one.run(f"ping -c1 -W5 {ip}").ok


def test_networkd_of_a_clone_has_configured_its_links(twins: Any) -> None:
    for machine in (twins.one, twins.two):
        # it does so a moment after our agent has
        told = machine.run(
            "until networkctl status lan0 | grep -q '(configured)'; do sleep 0.1; done;"
            "networkctl status lan0",
            timeout_s=60,
        ).stdout
        assert "05-carthage-lan0.network" in told
        assert str(machine.planned.links[0].address.ip) in told


def test_sshd_of_a_clone_has_its_own_key(twins: Any) -> None:
    key = twins.two.read_text("/etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert key in twins.one.run("ssh-keyscan -t ed25519 10.31.0.2").stdout


def test_console_of_a_clone_says_its_own_name(twins: Any) -> None:
    for machine in (twins.one, twins.two):
        deadline = time.monotonic() + 60
        while f"{machine.name} login:" not in machine.logs() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert f"{machine.name} login:" in machine.logs()


def test_clones_know_what_time_it_is(twins: Any) -> None:
    for machine in (twins.one, twins.two):
        assert abs(float(machine.run("date +%s.%N").stdout) - time.time()) < 5


def test_clones_have_started_all_that_the_image_starts(twins: Any) -> None:
    for machine in (twins.one, twins.two):
        assert machine.run("systemctl is-active default.target ssh.service").ok
        assert not machine.run("systemctl --failed --no-legend").stdout


def test_machines_were_cloned_and_none_booted(twins: Any, events: Recorder) -> None:
    notes = [event.text for event in events.events if event.kind == "note"]
    assert not [text for text in notes if "boots, since" in text]


def test_large_file_goes_to_a_clone_by_its_disk(twins: Any, tmp_path: Path) -> None:
    def sectors_read() -> int:
        return int(twins.one.read_text("/sys/block/vdb/stat").split()[2])

    size = 3 << 20
    content = os.urandom(size)
    (tmp_path / "large").write_bytes(content)
    before = sectors_read()
    twins.one.put(tmp_path / "large", "/srv/large")
    assert (sectors_read() - before) * 512 >= size
    seen = twins.one.run("sha256sum < /srv/large").stdout.split()[0]
    assert seen == hashlib.sha256(content).hexdigest()


def test_revert_puts_files_and_memory_back(twins: Any) -> None:
    one = twins.one
    # docs: snapshots
    one.write_text("/root/data", "before")
    one.run("mkdir -p /run/kept; sleep 1000 > /dev/null 2>&1 & echo $! > /run/kept/pid")
    one.snapshot("before")
    one.write_text("/root/data", "after")
    one.run("kill $(cat /run/kept/pid); rm -r /run/kept")
    one.revert("before")
    assert one.read_text("/root/data") == "before"
    assert one.run("kill -0 $(cat /run/kept/pid)").ok
    # docs: end
    assert abs(float(one.run("date +%s.%N").stdout) - time.time()) < 5


def test_random_numbers_after_a_revert_are_new_each_time(twins: Any) -> None:
    one = twins.one
    one.snapshot("seeded")
    numbers = set()
    for _ in range(2):
        one.revert("seeded")
        numbers.add(one.run("python3 -c 'import os; print(os.getrandom(32).hex())'").stdout)
    assert len(numbers) == 2


def test_revert_of_a_machine_whose_plug_was_pulled_has_it_run(twins: Any) -> None:
    one = twins.one
    one.write_text("/root/data", "kept")
    one.snapshot("plugged")
    one.stop(timeout_s=0)
    one.revert("plugged")
    assert one.read_text("/root/data") == "kept"
    assert one.run("ping -c1 -W5 10.31.0.2").ok


def test_snapshots_are_told_in_their_order(twins: Any) -> None:
    assert list(twins.one.snapshots()) == ["before", "seeded", "plugged"]
    assert list(twins.two.snapshots()) == []
