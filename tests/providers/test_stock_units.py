"""Debian's own units in a system container: each is started as its package has it, and serves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.images.builder import ensure
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from tests.providers.conftest import DEBIAN
from tests.support.layouts import Build, building

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

STOCK = DEBIAN.with_packages(
    "bind9",
    "bind9-dnsutils",
    "chrony",
    "cron",
    "curl",
    "dbus-user-session",
    "haproxy",
    "kmod",
    "libpam-systemd",
    "logrotate",
    "memcached",
    "nginx-light",
    "openssh-server",
    "postgresql",
    "redis-server",
    "rsyslog",
    "systemd-resolved",
)


class Stock(Layout):
    """A server that has everything, as it was installed."""

    lan = Network("10.0.0.0/24")
    server = Machine(STOCK, links={"eth0": lan.at(".1")}, init="systemd", ready_timeout_s=60)


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    if os.geteuid() != 0:
        pytest.skip("machines with images are built by root")
    if problems := NetnsProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}) as build,
    ):
        portal.call(lambda: ensure(STOCK, portal=portal, note=lambda who, text: None))
        yield build


@pytest.fixture(scope="module")
def server(build: Build) -> MachineHandle:
    machine: MachineHandle = build(Stock).server
    machine.run("useradd --create-home --shell /bin/bash someone; mkdir -p /var/log/journal")
    # Debian enables it nowhere
    machine.write_text(
        "/etc/systemd/network/stock.network",
        "[Match]\nName=stock0\n[Network]\nAddress=10.9.0.1/24\nIPv6AcceptRA=no\n",
    )
    machine.run(
        "ip link add stock0 type veth peer name stock1; ip link set stock1 up;"
        " systemctl start systemd-networkd"
    )
    return machine


_SESSION = "systemd-run --quiet --wait --pipe --collect -p PAMName=login -p User=someone"
#: a unit, and what it does only if it runs as it should
UNITS = {
    "haproxy": "haproxy -c -f /etc/haproxy/haproxy.cfg && test -S /run/haproxy/admin.sock",
    "nginx": "curl -sf http://127.0.0.1/ | grep -q 'Welcome to nginx'",
    "postgresql@15-main": "su postgres -c 'psql -Atc \"select 40 + 2\"' | grep -qx 42",
    "redis-server": "redis-cli set k v && redis-cli get k | grep -qx v",
    "memcached": "printf 'version\\r\\nquit\\r\\n' | bash -c"
    " 'exec 3<>/dev/tcp/127.0.0.1/11211; cat >&3; cat <&3' | grep -q ^VERSION",
    "named": "dig +short @127.0.0.1 localhost | grep -qx 127.0.0.1",
    "rsyslog": "logger -t stock to-rsyslog; for i in $(seq 50); do"
    " grep -qs to-rsyslog /var/log/syslog && exit; sleep 0.1; done; exit 1",
    "cron": "pgrep -x cron && su someone -c 'echo \"@daily true\" | crontab - && crontab -l'"
    " | grep -q true",
    "ssh": "bash -c 'exec 3<>/dev/tcp/10.0.0.1/22; head -1 <&3' | grep -q ^SSH-2.0",
    "systemd-resolved": "resolvectl query localhost"
    " && test -S /run/systemd/resolve/io.systemd.Resolve",
    "systemd-networkd": "/lib/systemd/systemd-networkd-wait-online -i stock0 --timeout 10"
    " && ip -br addr show stock0 | grep -q 10.9.0.1/24",
    "systemd-journald": "systemctl restart systemd-journald && journalctl --flush"
    ' && test -n "$(ls /var/log/journal/*/system.journal)"',
    "systemd-logind": f"{_SESSION} loginctl show-user someone -p State",
    "systemd-tmpfiles-setup": "systemd-tmpfiles --create --remove --boot",
}


@pytest.mark.parametrize("unit", UNITS)
def test_unit_runs_as_its_package_has_it_and_serves(server: MachineHandle, unit: str) -> None:
    state = server.run(f"systemctl is-active {unit}", check=False).stdout.strip()
    assert state == "active", server.run(f"systemctl status --no-pager -n 30 {unit}", check=False)
    done = server.run(["bash", "-o", "pipefail", "-c", UNITS[unit]], check=False)
    assert done.ok, done
    changed = server.run(f"systemctl show -P DropInPaths {unit}").stdout.split()
    assert not [path for path in changed if not path.startswith(("/lib/", "/usr/lib/"))]


def test_chrony_is_skipped_as_nobody_in_a_machine_sets_the_clock(server: MachineHandle) -> None:
    show = "systemctl show -P ActiveState -P ConditionResult chrony"
    assert server.run(show).stdout.split() == ["inactive", "no"]
    conditions = server.run("systemctl cat chrony").stdout
    assert "ConditionCapability=CAP_SYS_TIME" in conditions


def test_chrony_that_is_told_not_to_set_the_clock_serves(server: MachineHandle) -> None:
    server.run("systemd-run --quiet --unit told-chrony chronyd -x -d")
    try:
        server.run("for i in $(seq 50); do chronyc -n tracking && exit; sleep 0.1; done; exit 1")
    finally:
        server.run("systemctl stop told-chrony")


def test_user_has_a_session_and_units_of_his_own(server: MachineHandle) -> None:
    server.run("loginctl enable-linger someone")
    uid = server.run("id -u someone").stdout.strip()
    server.run(
        f"for i in $(seq 100); do test -S /run/user/{uid}/bus && exit; sleep 0.1; done; exit 1"
    )
    own = f"XDG_RUNTIME_DIR=/run/user/{uid} systemd-run --user --wait --pipe --quiet id -un"
    assert server.run(f"su someone -c '{own}'").stdout.strip() == "someone"


def test_stub_of_resolved_takes_the_place_of_a_file(build: Build, server: MachineHandle) -> None:
    stub = "/run/systemd/resolve/stub-resolv.conf"
    server.run(f"ln -sf {stub} /etc/resolv.conf")
    assert server.run("dig +short localhost").stdout == "127.0.0.1\n"
    assert "SERVER: 127.0.0.53#53" in server.run("dig localhost").stdout
    server.restart()
    assert server.run("readlink /etc/resolv.conf").stdout.strip() == stub


def test_no_unit_has_failed(server: MachineHandle) -> None:
    assert server.run("systemctl --failed --no-legend --plain").stdout == ""


def test_module_of_the_host_is_loaded_without_effect_and_told_of(server: MachineHandle) -> None:
    server.run("modprobe -a carthage_one carthage-two; modprobe carthage_one size=2")
    server.run("modprobe -r carthage_one")
    told = [name for name in server.inert_settings() if "carthage" in name]
    assert told == [
        "modprobe carthage_one",
        "modprobe carthage-two",
        "modprobe -r carthage_one",
    ]
    present = server.run("ls /sys/module").lines[0]
    server.run(["modprobe", present])  # what the kernel has is there
    assert f"modprobe {present}" not in server.inert_settings()
    server.write_text("/etc/modprobe.d/site.conf", "install cramfs /bin/false\n")
    assert not server.run("modprobe cramfs", check=False).ok
    assert server.run("modprobe -n -v cramfs").stdout.strip() == "install /bin/false"


def test_module_of_the_host_is_refused_where_that_is_wanted(build: Build) -> None:
    class Strict(Layout):
        """Says what is refused."""

        m = Machine(STOCK, strict_settings=True)

    done = build(Strict).m.run("modprobe carthage_one", check=False)
    assert "Module carthage_one not found" in done.stderr
