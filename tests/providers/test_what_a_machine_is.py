"""What a machine is on each target: the table of ``docs/explanation/machines.md``, asked for.

A script looks for each row, and prints the words of the table. Nothing of the host is changed by
it, even where it could be: what is opened for writing is not written, the clock is set to what it
is, and reboot(2) is called with a number that is none.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Limits, Machine, Network, exited
from pytest_carthage.errors import LayoutError
from pytest_carthage.fabric.host import subids
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage.store.built import Built
from tests.providers.conftest import DEBIAN
from tests.support.layouts import Build, Factories, building

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="machines with images are built by root"),
]

PAGE = Path(__file__).parents[2] / "docs/explanation/machines.md"

#: heads of the table's columns to machines
COLUMNS = {
    "over the host's files": "bare",
    "system container": "plain",
    "with systemd": "booted",
    "container on podman": "ship",
}

#: row to what stands in its columns
TABLE = {
    "`hostname`": ("refused", "its own", "its own", "refused"),
    "`/etc/hosts`, `hostname`, `resolv.conf`": (
        "ordinary files",
        "ordinary files",
        "ordinary files",
        "mounted: cannot be replaced",
    ),
    "`net.*`": ("its own", "its own", "its own", "refused"),
    "System V memory": ("refused", "its own", "its own", "refused"),
    "`vm.*`, transparent huge pages": (
        "refused",
        "set without effect",
        "set without effect",
        "refused",
    ),
    "`mount`": ("refused", "its own", "its own", "refused"),
    "modules": ("refused", "set without effect", "set without effect", "refused"),
    "the clock": ("refused", "refused", "refused", "refused"),
    "`reboot`": ("refused", "its own", "its own", "refused"),
    "devices": (
        "`null`, `net/tun`, `fuse`",
        "`null`, `net/tun`, `fuse`, `kmsg`",
        "`null`, `net/tun`, `fuse`, `kmsg`",
        "`null`",
    ),
    "containers inside": ("user namespaces", "yes", "yes", "user namespaces"),
    "systemd's `ProtectSystem=`": ("no systemd", "no systemd", "applied", "silently not applied"),
    "control groups": ("read-only", "its own", "its own", "read-only"),
    "user 0 is, on the host,": ("0", "1000000", "1000000", "0"),
    "`ulimit`, niceness, umask": (
        "as on a server",
        "as on a server",
        "as on a server",
        "podman's",
    ),
    "`limits=`": ("kept to", "kept to", "kept to", "kept to"),
    "`/proc/meminfo`, `nproc`": ("by `limits=`", "by `limits=`", "by `limits=`", "the host's"),
    "`/dev/shm`": ("half of memory", "half of memory", "half of memory", "podman's"),
    "`/dev/console`": ("none", "its log", "its log", "none"),
    "a main process that ends": ("is noted", "is noted", "no main process", "the machine is off"),
    "`restart=` starts again": ("the main process", "the main process", "refused", "the container"),
    "files over a restart": ("kept", "kept", "kept", "kept"),
}

_REBOOT = {"x86_64": 169, "aarch64": 142}.get(platform.machine(), 0)

_OPEN = """\
for path in {paths}; do
    [ -e $path ] || continue
    (exec 3>>$path) 2>/dev/null || {{ echo refused; exit; }}
    [ "$(stat -f -c %T $path)" = tmpfs ] && seen="set without effect" || seen="its own"
done
echo $seen
"""

#: row to what looks; what it prints is what stands in the table
LOOKS = {
    "`hostname`": """\
name=$(hostname)
hostname other 2>/dev/null || { echo refused; exit; }
[ "$(uname -n)" = other ] && hostname $name && echo its own
""",
    "`/etc/hosts`, `hostname`, `resolv.conf`": """\
for path in /etc/hosts /etc/hostname /etc/resolv.conf; do
    cp -a $path /etc/new && mv /etc/new $path 2>/dev/null && continue
    rm -f /etc/new; echo mounted: cannot be replaced; exit
done
echo ordinary files
""",
    "`net.*`": _OPEN.format(paths="/proc/sys/net/ipv4/ip_forward /proc/sys/net/core/somaxconn"),
    "System V memory": _OPEN.format(paths="/proc/sys/kernel/shmmax"),
    "`vm.*`, transparent huge pages": _OPEN.format(
        paths="/proc/sys/vm/swappiness /sys/kernel/mm/transparent_hugepage/enabled"
    ),
    "`mount`": """\
mount -t tmpfs none /mnt 2>/dev/null && umount /mnt && echo its own || echo refused
""",
    "modules": """\
rights=$(grep CapBnd /proc/self/status | cut -f2)
[ $(( 0x$rights >> 16 & 1 )) = 0 ] || { echo its own; exit; }
[ "$(stat -f -c %T /lib/modules/$(uname -r) 2>/dev/null)" = tmpfs ] || { echo refused; exit; }
echo set without effect
""",
    "the clock": """\
date -s "$(date -Ins)" >/dev/null 2>&1 && echo its own || echo refused
""",
    "`reboot`": f"""\
perl -e 'use Errno; syscall({_REBOOT}, 0, 0, 0, 0); print $!{{EPERM}} ? "refused" : "its own"'
""",
    "devices": """\
for name in null net/tun fuse kmsg; do
    (exec 3</dev/$name) 2>/dev/null && seen="$seen${seen:+, }\\`$name\\`"
done
echo $seen
""",
    "containers inside": """\
unshare -mpf --mount-proc true 2>/dev/null && { echo yes; exit; }
unshare -Ur true 2>/dev/null && echo user namespaces || echo no
""",
    "systemd's `ProtectSystem=`": """\
[ "$(cat /proc/1/comm)" = systemd ] || { echo no systemd; exit; }
systemd-run -q --wait -p ProtectSystem=strict touch /usr/touched 2>/dev/null
rm /usr/touched 2>/dev/null && echo silently not applied || echo applied
""",
    "control groups": """\
for path in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    [ -w $path/cgroup.procs ] && { echo its own; exit; }
done
echo read-only
""",
    "user 0 is, on the host,": """\
while read first there count; do echo $there; break; done < /proc/self/uid_map
""",
    "`ulimit`, niceness, umask": """\
seen="$(ulimit -Sn) $(ulimit -Sc) $(ulimit -t) $(nice) $(umask)"
[ "$seen" = "1024 0 unlimited 0 0022" ] && echo as on a server && exit
hard=$(ulimit -Hn)
grep -q "open files *$hard  *$hard " /proc/1/limits && echo "podman's" || echo $seen
""",
    "`limits=`": """\
(trap 'kill $pids' EXIT; for i in $(seq 150); do sleep 5 & pids="$pids $!"; done) 2>&1 |
grep -q fork && echo kept to || echo not kept to
""",
    "`/proc/meminfo`, `nproc`": """\
seen=$(grep -c ^processor /proc/cpuinfo):$(nproc):$(awk '/MemTotal/ {print $2}' /proc/meminfo)
[ $seen = 1:1:524288 ] && echo 'by `limits=`' || echo "the host's"
""",
    "`/dev/shm`": """\
size=$(df --output=size -k /dev/shm | tail -1)
[ $size = $((512 * 1024 / 2)) ] && echo half of memory && exit
[ $size -lt 65537 ] && echo "podman's" || echo $size
""",
    "`/dev/console`": """\
[ -e /dev/console ] || { echo none; exit; }
echo word > /dev/console && echo its log
""",
}


#: rows that one look is not enough for
LONGER = {"a main process that ends", "`restart=` starts again", "files over a restart"}


class Fleet(Layout):
    """One machine of each kind; and a container with systemd, for what only systemd can show."""

    lan = Network("10.0.0.0/24")
    few = Limits(pids=100, memory_mib=512, cpus=1)
    bare = Machine(links={"eth0": lan.at(".1")}, limits=few)
    plain = Machine(DEBIAN, links={"eth0": lan.at(".2")}, limits=few)
    booted = Machine(DEBIAN, links={"eth0": lan.at(".3")}, init="systemd", limits=few)
    ship = Machine(DEBIAN, links={"eth0": lan.at(".4")}, on="podman", limits=few)
    booted_ship = Machine(DEBIAN, links={"eth0": lan.at(".5")}, on="podman", init="systemd")


@pytest.fixture(scope="module")
def build(built: Built) -> Iterator[Build]:
    problems = [*NetnsProvider().check(), *PodmanProvider().check()]
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    providers: Factories = {"netns": NetnsProvider, "podman": PodmanProvider}
    with contextlib.closing(Portal()) as portal, building(portal, providers) as build:
        yield build


@pytest.fixture(scope="module")
def fleet(build: Build) -> Fleet:
    return build(Fleet)


def cells() -> Iterator[tuple[str, str]]:
    """Row and column of all that stands in the table."""
    for row in TABLE:
        for column in COLUMNS:
            yield row, column


def expected(row: str, column: str) -> str:
    """What stands there, on this host."""
    words = TABLE[row][list(COLUMNS).index(column)]
    if words == "1000000":  # what there is unless /etc/subuid says otherwise
        return str(subids.of_root()[0])
    if words == "by `limits=`" and not Path("/dev/fuse").exists():
        return "the host's"
    if row != "devices":
        return words
    return ", ".join(name for name in words.split(", ") if Path("/dev", name.strip("`")).exists())


@pytest.mark.parametrize(("row", "column"), [cell for cell in cells() if cell[0] in LOOKS])
def test_machine_is_what_the_table_says(fleet: Fleet, row: str, column: str) -> None:
    name = COLUMNS[column]
    if "ProtectSystem" in row and name == "ship":
        name = "booted_ship"
    seen = fleet[name].run(LOOKS[row], check=False)
    assert seen.stdout.strip() == expected(row, column), seen.stderr


@pytest.mark.parametrize("column", COLUMNS)
def test_files_over_a_restart_are_what_the_table_says(fleet: Fleet, column: str) -> None:
    machine = fleet[COLUMNS[column]]
    machine.write_text("/srv/note", "here")
    machine.restart()
    seen = "kept" if machine.exists("/srv/note") else "thrown away"
    assert seen == expected("files over a restart", column)


#: ends when it is told to, and has left another process behind in its first life
ENDING = (
    "test -e /srv/begun || (tail -f /dev/null &); touch /srv/begun;"
    " until test -e /srv/end; do sleep 0.02; done; rm /srv/end; exit 1"
)
LEFT = "grep -lx tail /proc/[0-9]*/comm 2>/dev/null"


def ending(column: str, restart: str) -> type[Layout]:
    """A machine whose main process ends."""
    kind: Machine = getattr(Fleet, COLUMNS[column])
    command = ENDING if kind.init is None else None
    machine = Machine(kind.image, on=kind.on, command=command, init=kind.init, restart=restart)
    return Layout.of("Ending", {"m": machine})


@pytest.mark.parametrize("column", COLUMNS)
def test_end_of_a_main_process_is_what_the_table_says(build: Build, column: str) -> None:
    words = expected("a main process that ends", column)
    machine = build(ending(column, "no"))["m"]
    if words == "no main process":
        assert machine.aio.planned.command is None
        return
    machine.write_text("/srv/end", "")
    machine.wait_for(exited(1), timeout_s=30)
    seen = "is noted" if machine.aio.is_up() and machine.run("true").ok else "the machine is off"
    assert seen == words


@pytest.mark.parametrize("column", COLUMNS)
def test_what_is_started_again_is_what_the_table_says(build: Build, column: str) -> None:
    words = expected("`restart=` starts again", column)
    if words == "refused":
        with pytest.raises(LayoutError, match=r"restart='always' and init='systemd' exclude"):
            ending(column, "always")
        return
    machine = build(ending(column, "always"))["m"]
    machine.run(f"until [ $({LEFT} | wc -l) = 1 ]; do sleep 0.02; done", timeout_s=30)
    machine.write_text("/srv/end", "")
    machine.wait_for(exited(1), timeout_s=30)
    deadline = time.monotonic() + 30
    while machine.restarts == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    left = machine.run(LEFT, check=False).lines
    assert ("the main process" if left else "the container") == words


def test_table_of_the_page_is_that_of_the_tests() -> None:
    assert set(TABLE) == {*LOOKS, *LONGER}
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == ["", *COLUMNS]
    assert set("".join(rows[1])) == {"-"}
    assert rows[2:] == [[row, *words] for row, words in TABLE.items()]
