"""Debian's own engines in a system container, and machines in that; and others of its units.

Some of these cannot be installed beside those of ``test_stock_units``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.images.builder import ensure
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from tests.providers.conftest import DEBIAN
from tests.support.layouts import Build, building

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

INSIDE = DEBIAN.with_packages(
    "cloud-init",
    "crun",
    "docker.io",
    "fuse-overlayfs",
    "podman",
    "resolvconf",
    "systemd-container",
    "systemd-coredump",
    "systemd-timesyncd",
)
#: all that a container needs, taken from the machine itself
TINY = """
cd /srv && mkdir -p tiny/bin tiny/dev tiny/etc tiny/proc tiny/sys tiny/tmp tiny/usr tiny/old
touch tiny/etc/os-release
for name in cat ls sh sleep; do
    cp /bin/$name tiny/bin
    for library in $(ldd /bin/$name | grep -o '/[^ ]*'); do
        install -D $library tiny$library
    done
done
"""


class Engines(Layout):
    """A machine that holds others."""

    lan = Network("10.0.0.0/24")
    server = Machine(INSIDE, links={"eth0": lan.at(".1")}, init="systemd", ready_timeout_s=60)


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
        portal.call(lambda: ensure(INSIDE, portal=portal, note=lambda who, text: None))
        yield build


@pytest.fixture(scope="module")
def engines(build: Build) -> Engines:
    return build(Engines)


@pytest.fixture(scope="module")
def server(engines: Engines) -> MachineHandle:
    machine: MachineHandle = engines.server
    machine.run(TINY)
    return machine


# engines of containers

_MEMORY = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>&-; :"
#: what says how an engine stores layers
DRIVER = {
    "docker": "docker info --format '{{.Driver}}'",
    "podman": "podman info --format '{{.Store.GraphDriverName}}'",
}


@pytest.fixture(scope="module", params=DRIVER)
def engine(request: pytest.FixtureRequest, server: MachineHandle) -> str:
    """The name of an engine that has an image."""
    name: str = request.param
    server.run(f"tar -C /srv/tiny -c . | {name} import - tiny")
    return name


def test_engine_runs_containers(server: MachineHandle, engine: str) -> None:
    command = "cat /proc/1/comm; echo $USER_S; ls /sys/class/net"
    seen = server.run(f"{engine} run --rm -e USER_S=shop tiny /bin/sh -c '{command}'").lines
    assert seen[:2] == ["sh", "shop"]
    assert "eth0" in seen


def test_engine_bounds_what_a_container_may_use(server: MachineHandle, engine: str) -> None:
    said = server.run(f"{engine} run --rm --memory 50m tiny /bin/sh -c '{_MEMORY}'").stdout
    assert said.strip() == str(50 << 20)


def test_engine_keeps_containers_that_others_enter(server: MachineHandle, engine: str) -> None:
    server.run(f"{engine} run -d --name kept tiny /bin/sleep 1000")
    assert server.run(f"{engine} exec kept /bin/cat /proc/1/comm").stdout == "sleep\n"
    server.run(f"{engine} rm -f -t 0 kept" if engine == "podman" else f"{engine} rm -f kept")


def test_engine_stores_layers_by_fuse(server: MachineHandle, engine: str) -> None:
    expected = {"docker": "fuse-overlayfs", "podman": "overlay"}[engine]
    assert server.run(DRIVER[engine]).stdout.strip() == expected
    if engine == "podman":
        server.run("podman run -d --name stored tiny /bin/sleep 1000")
        assert "fuse.fuse-overlayfs" in server.run("mount").stdout
        server.run("podman rm -f -t 0 stored")


def test_podman_stores_copies_where_it_is_told_so(server: MachineHandle) -> None:
    podman = "podman --root /srv/copies --storage-driver vfs"
    server.run(f"tar -C /srv/tiny -c . | {podman} import - tiny")
    assert server.run(f"{podman} run --rm tiny /bin/cat /proc/1/comm").stdout == "cat\n"


def test_overlay_is_not_stacked_in_the_root_file_system(server: MachineHandle) -> None:
    server.run("mkdir -p /srv/over/u /srv/over/w /srv/over/m")
    layers = "lowerdir=/etc,upperdir=/srv/over/u,workdir=/srv/over/w"
    refused = server.run(f"mount -t overlay o -o {layers} /srv/over/m", check=False)
    assert not refused.ok


# machines in a machine


def test_namespaces_with_a_root_of_their_own(server: MachineHandle) -> None:
    inside = "mount --bind tiny tiny && cd tiny && pivot_root . old && exec /bin/sh -c 'ls /'"
    command = f'cd /srv && unshare -mpf --mount-proc sh -c "{inside}"'
    assert server.run(command).lines == server.run("ls /srv/tiny").lines


def test_nspawn_runs_a_program_in_a_folder(server: MachineHandle) -> None:
    done = server.run("systemd-nspawn -q -D /srv/tiny --pipe /bin/cat /proc/1/comm")
    assert done.stdout == "cat\n"


def test_nspawn_boots_a_machine_with_systemd(server: MachineHandle) -> None:
    server.run(
        "mkdir -p /run/over /srv/whole && mount -t tmpfs none /run/over && cd /run/over &&"
        " mkdir upper work && mount -t overlay none -o lowerdir=/,upperdir=upper,workdir=work"
        " /srv/whole && systemctl --root /srv/whole --quiet mask docker docker.socket containerd"
        " podman.socket podman-restart podman-auto-update cloud-init-local && systemd-run -q -u"
        " inner -p KillMode=mixed systemd-nspawn -q -b -D /srv/whole -M inner --private-network"
    )
    try:
        state = "systemctl -M inner is-system-running --wait"
        server.run(f"for i in $(seq 300); do {state} && exit; sleep 0.1; done; exit 1")
        assert server.run("systemd-run -M inner -qP cat /proc/1/comm").stdout == "systemd\n"
        assert "inner" in server.run("machinectl list").stdout
    finally:
        server.run("machinectl terminate inner; systemctl stop inner; umount /srv/whole /run/over")


# other units


def test_timesyncd_is_skipped_as_in_any_container(server: MachineHandle) -> None:
    show = "systemctl show -P ActiveState -P ConditionResult systemd-timesyncd"
    assert server.run(show).stdout.split() == ["inactive", "no"]
    assert (
        "ConditionVirtualization=!container" in server.run("systemctl cat systemd-timesyncd").stdout
    )


def test_cores_go_where_the_host_has_them_go(server: MachineHandle) -> None:
    pattern = server.inert_settings()["kernel.core_pattern"]
    assert pattern.startswith("|/lib/systemd/systemd-coredump ")
    crash = "mkdir /srv/crash; cd /srv/crash; ulimit -c unlimited; sh -c 'kill -SEGV $$'"
    server.run(crash, check=False)
    cores = server.run("ls /srv/crash").lines
    hosts = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    assert bool(cores) == (hosts[:1] not in "|/@"), hosts
    assert "No coredumps found" in server.run("coredumpctl list", check=False).stderr


SEED = """#cloud-config
hostname: renamed
manage_etc_hosts: true
locale: false
ssh_genkeytypes: []
write_files: [{path: /srv/written, content: here}]
"""


@pytest.fixture(scope="module")
def booted_again(engines: Engines, server: MachineHandle) -> MachineHandle:
    """The server, whose files of names are others' now, after that had a reason to be ours."""
    # what its package asks about when it is installed, see resolvconf(8)
    server.run("ln -sf /run/resolvconf/resolv.conf /etc/resolv.conf")
    server.run("mkdir -p /var/lib/cloud/seed/nocloud")
    server.write_text("/var/lib/cloud/seed/nocloud/user-data", SEED)
    server.write_text("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: first\n")
    server.restart()
    server.run("echo nameserver 10.0.0.54 | resolvconf -a eth0.shop")
    server.run("cloud-init status --wait", check=False)
    engines.add(Machine(links={"eth0": engines.lan.at("auto")}), name="newcomer")
    return server


def test_resolvconf_writes_what_is_a_link_to_its_file(booted_again: MachineHandle) -> None:
    assert "nameserver 10.0.0.54" in booted_again.run("cat /etc/resolv.conf").lines
    linked = booted_again.run("readlink /etc/resolv.conf").stdout.strip()
    assert linked == "/run/resolvconf/resolv.conf"


def test_cloud_init_does_its_work_at_boot(booted_again: MachineHandle) -> None:
    status = booted_again.run("cloud-init status --long", check=False).stdout
    assert "status: done" in status
    assert booted_again.run("cat /srv/written; hostname").stdout == "hererenamed\n"
    hosts = booted_again.run("cat /etc/hosts").lines
    assert "127.0.1.1 renamed renamed" in hosts
    assert any(line.split()[1:] == ["newcomer"] for line in hosts)


def test_no_unit_has_failed(server: MachineHandle) -> None:
    assert server.run("systemctl --failed --no-legend --plain").stdout == ""
