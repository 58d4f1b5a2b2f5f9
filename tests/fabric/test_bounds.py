"""What root of a machine, of an image and of a container may do to the host: nothing is hurt here.

See :mod:`tests.support.attempts` for why none of the attempts could.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.fabric import bounds
from pytest_carthage.images import workshop
from pytest_carthage.portal import Portal
from tests.fabric.conftest import Bench
from tests.support import attempts

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user cannot hurt the host anyway"),
]

SOURCE = Path(attempts.__file__).read_text()
#: the container's, in the order of their numbers; and those that shape a network
CONTAINER = (
    "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot "
    "audit_write setfcap"
)
NETWORK = "net_admin net_raw"


def _bits(names: str) -> int:
    return sum(1 << bounds.NUMBERS[name] for name in names.split())


def _report(printed: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return report


def _assert_bounded(report: dict[str, Any], names: str) -> None:
    sets = dict.fromkeys(("CapInh", "CapAmb"), 0)
    assert report["capabilities"] == sets | dict.fromkeys(
        ("CapPrm", "CapEff", "CapBnd"), _bits(names)
    )
    # a kernel that has no such call at all cannot be hurt by it
    refused = {
        name for name, number in report["calls"].items() if number in (errno.EPERM, errno.ENOSYS)
    }
    assert refused == set(report["calls"]), report["calls"]
    assert report["node"] == errno.EPERM
    assert report["writable"] == []


@pytest.fixture
def machine(bench: Bench) -> Bench:
    """A fabric with one machine, which is called ``a``."""
    bench.networks(lan="ethernet")
    assert not bench.machine("a", {"interface": "eth0", "network": "lan"})
    return bench


def _python(source: str, *arguments: str) -> str:
    return shlex.join(["python3", "-c", source, *arguments])


def test_root_of_a_machine_has_what_a_container_has_and_its_network(machine: Bench) -> None:
    report = _report(machine.run_in("a", _python(SOURCE, "/tmp")))
    _assert_bounded(report, f"{CONTAINER} {NETWORK}")


def test_main_process_of_a_machine_is_bounded_as_its_commands_are(bench: Bench) -> None:
    bench.networks(lan="ethernet")
    link = {"interface": "eth0", "network": "lan"}
    command = ["sh", "-c", f"{_python(SOURCE, '/tmp')} > /tmp/report; sleep 60"]
    assert not bench.machine("a", link, command=command)
    printed = bench.run_in(
        "a", "until grep -q devices /tmp/report; do sleep 0.02; done; cat /tmp/report"
    )
    _assert_bounded(_report(printed), f"{CONTAINER} {NETWORK}")


def test_devices_of_a_machine_are_those_that_belong_to_nobody(machine: Bench) -> None:
    report = _report(machine.run_in("a", _python(SOURCE, "/tmp")))
    allowed = "null zero full random urandom tty net/tun fuse kvm vhost-net"
    nodes = {path for path in report["devices"] if not path.startswith("/dev/pts/")}
    assert nodes <= {f"/dev/{name}" for name in allowed.split()}
    assert "/dev/null" in nodes
    machine.run_in("a", "echo x > /dev/null; head -c1 /dev/urandom > /dev/zero; touch /dev/log")
    assert not Path("/dev/log").exists()
    assert machine.run_in("a", "script -qc 'tty; echo on a terminal' /dev/null | tail -1").strip()


def test_node_elsewhere_in_the_files_of_the_host_opens_nothing(
    machine: Bench, bench: Bench, tmp_path: Path
) -> None:
    folder = Path("/usr/share") / f"carthage-test-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        os.mknod(folder / "null", 0o600 | 0o020000, os.makedev(1, 3))
        seen = machine.run_in("a", f"test -e {folder}/null && cat {folder}/null", check=False)
    finally:
        shutil.rmtree(folder)
    assert "Permission denied" in seen


#: in a user namespace of its own, root has all capabilities again, but only there
ANEW = "unshare --user --map-root-user --mount --pid --fork --net "


PLACES = ("/", "/proc/sys", "/proc/irq", "/sys")


def test_files_of_the_host_stay_read_only_in_spite_of_a_remount(machine: Bench) -> None:
    for around in ("", ANEW):
        machine.run_in("a", f"{around}true")
        for place in PLACES:
            remount = f"{around}mount -o remount,bind,rw {place}"
            seen = machine.run_in("a", f"{remount} && echo DONE", check=False)
            assert "permission denied" in seen, (around, place)
            assert "DONE" not in seen


def test_second_view_of_the_kernels_settings_is_refused(machine: Bench) -> None:
    for kind in ("proc", "sysfs"):
        seen = machine.run_in("a", f"{ANEW}mount -t {kind} {kind} /mnt && echo DONE", check=False)
        assert "permission denied" in seen, kind
        assert "DONE" not in seen


def test_machine_shapes_its_own_network(machine: Bench) -> None:
    machine.run_in(
        "a",
        "set -e; ip link add br0 type bridge; ip link set br0 up; ip addr add 10.9.0.1/24 dev br0; "
        "echo 1 > /proc/sys/net/ipv4/ip_forward; nft add table inet t; "
        "echo 1 > /sys/devices/virtual/net/br0/bridge/stp_state; ip tuntap add t0 mode tap; "
        "chown nobody /srv; su nobody -s /bin/sh -c id",
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is not below the files that a workshop has as its layer."""
    folder = Path("/dev/shm") / f"carthage-test-{secrets.token_hex(4)}"
    (folder / "tree").mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("network", "names"), [(False, f"{CONTAINER} {NETWORK}"), (True, CONTAINER)]
)
def test_root_in_an_image_has_what_a_container_has(folder: Path, network: bool, names: str) -> None:
    portal = Portal()

    async def go() -> str:
        async with workshop.opened(
            [Path("/")], folder, name="it", who="image 'it'", portal=portal, network=network
        ) as opened:
            return (await opened.run(["python3", "-c", SOURCE, "/tmp"])).stdout

    try:
        report = _report(portal.call(go))
    finally:
        portal.close()
    if network:  # the host's: no part of it is a place to write
        assert not [path for path in report["writable"] if path.startswith("/sys/")]
    _assert_bounded(report, names)
    nodes = {path for path in report["devices"] if not path.startswith("/dev/pts/")}
    assert nodes == {f"/dev/{name}" for name in "null zero full random urandom tty".split()}
