"""Machines with an image on the ``netns`` target: what their root can, and what it cannot."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, TimeLimitError, exited, log, rebooted, unit
from pytest_carthage.errors import CreationError, FabricError
from pytest_carthage.events import Recorder
from pytest_carthage.fabric.host import subids
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.store.built import Built
from tests.providers.conftest import DEBIAN
from tests.support.layouts import Build, building

pytestmark = pytest.mark.real


class Two(Layout):
    """One of each kind."""

    lan = Network("10.0.0.0/24")
    plain = Machine(DEBIAN, links={"eth0": lan.at(".1")})
    strict = Machine(DEBIAN, links={"eth0": lan.at(".2")}, strict_settings=True)
    booted = Machine(DEBIAN, links={"eth0": lan.at(".3")}, init="systemd")


@pytest.fixture(scope="module")
def build(built: Built) -> Iterator[Build]:
    if problems := NetnsProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}) as build,
    ):
        yield build


@pytest.fixture(scope="module")
def two(build: Build) -> Two:
    return build(Two)


@pytest.fixture(params=["plain", "booted"])
def machine(request: pytest.FixtureRequest, two: Two) -> MachineHandle:
    found: MachineHandle = two[request.param]
    return found


# what is its own


OWN = {
    "tmpfs": "mount -t tmpfs none /mnt && touch /mnt/x && umount /mnt",
    "bind": "mount --bind /etc /mnt && test -e /mnt/passwd && umount /mnt",
    "overlay": "mkdir -p /run/u /run/w && mount -t overlay o -o"
    " lowerdir=/etc,upperdir=/run/u,workdir=/run/w /mnt && touch /mnt/x && umount /mnt",
    "root elsewhere": "mount --bind / /mnt && test -e /mnt/etc/passwd && umount /mnt",
    "overlay of all": "mkdir -p /run/u2 /run/w2 && mount -t overlay o -o"
    " lowerdir=/,upperdir=/run/u2,workdir=/run/w2 /mnt && touch /mnt/etc/x && umount /mnt",
    "proc": "mount -t proc proc /mnt && test -e /mnt/self && umount /mnt",
    "container": "unshare -mpf --mount-proc sh -c 'test $(ps ax | wc -l) -lt 7'",
    "container of a user's": "unshare -Umrnpf --mount-proc sh -c 'mount -t sysfs x /sys'",
    "network namespace": "ip netns add x && ip netns exec x true && ip netns del x",
    "veth": "ip link add v0 type veth peer name v1 && ip link del v0",
    "tunnel": "ip tuntap add mode tun name t0 && ip link del t0",
    "net/tun": "exec 3<>/dev/net/tun",
    "fuse": "exec 3<>/dev/fuse",
    "null": 'test "$(stat -c %a /dev/null)" = 666',
    "null of root's": "test -O /dev/null",
    "settings of its network": "sysctl -qw net.ipv4.ip_forward=1 net.core.somaxconn=999",
    "System V memory": "sysctl -qw kernel.shmmax=9999 && sysctl -n kernel.shmmax | grep -qx 9999",
    "name": "hostname other && test $(uname -n) = other && hostname $(cat /etc/hostname)",
    "name as a setting": "sysctl -qw kernel.hostname=third;"
    " until hostname | grep -qx third; do :; done; hostname $(cat /etc/hostname);"
    " until sysctl -n kernel.hostname | grep -qxf /etc/hostname; do :; done",
    "message queues": "mkdir -p /mnt/q && mount -t mqueue q /mnt/q && umount /mnt/q",
    "shared memory": 'test "$(stat -c %a /dev/shm)" = 1777',
    "terminal": "test -c /dev/pts/ptmx",
    "uids": 'touch /root/u0 && chown 65533:65533 /root/u0 && test "$(stat -c %u /root/u0)" = 65533',
    "uids of a directory's": "touch /root/d0 && chown 1200000001:1200000001 /root/d0 &&"
    " setpriv --reuid 1200000001 --regid 1200000001 --clear-groups id -u | grep -qx 1200000001",
    "ping of anybody": "setpriv --reuid 65534 ping -c1 -W2 10.0.0.2",
    "uptime": "test $(cut -d. -f1 /proc/uptime) -lt 600",
}


#: what needs a node of a device that may be root's alone on the host
NODES = {"tunnel": "net/tun", "net/tun": "net/tun", "fuse": "fuse"}


def _ids() -> int:
    """How many ids a machine has here."""
    if os.geteuid() == 0:
        return subids.of_root()[1]
    maps = subids.of_user()
    return maps.size if maps is not None else 1


@pytest.mark.parametrize("what", OWN)
def test_root_has_all_that_is_the_machines(machine: MachineHandle, what: str) -> None:
    if os.geteuid() and what in NODES and not os.access(f"/dev/{NODES[what]}", os.R_OK | os.W_OK):
        pytest.skip(f"an ordinary user's machines have the host's /dev/{NODES[what]} as it is")
    if what == "uids of a directory's" and _ids() <= 1_200_000_001:
        pytest.skip("whose ids stand in /etc/subuid have no others")
    if os.geteuid() and what == "null of root's":
        pytest.skip("an ordinary user's machines have the host's nodes, which are nobody's there")
    machine.run(OWN[what])


@pytest.mark.parametrize(
    "change",
    [
        "echo '192.0.2.9 own' > /etc/new && mv /etc/new {}",
        "sed -i 's/localhost/localhost own/' {}",
        "rm {0} && ln -s /run/elsewhere {0}",
        "cp {0} /run/x && mount --bind /run/x {0} && umount {0}",
    ],
)
@pytest.mark.parametrize("path", ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"])
def test_files_of_names_are_ordinary_ones(machine: MachineHandle, path: str, change: str) -> None:
    machine.run(f"cp -a {path} /root/kept")
    try:
        machine.run(change.format(path))
    finally:
        machine.run(f"rm -f {path} && mv /root/kept {path}")


def test_newcomers_are_told_of_without_undoing_what_others_wrote(two: Two) -> None:
    two.plain.run(
        "sed -i 's/^10.0.0.3 .*/10.0.0.3 mine/' /etc/hosts; echo 192.0.2.1 x >> /etc/hosts"
    )
    two.add(Machine(links={"eth0": Two.lan.at(".50")}), name="newcomer")
    try:
        lines = two.plain.read_text("/etc/hosts").splitlines()
        assert {"10.0.0.50 newcomer", "10.0.0.3 mine", "192.0.2.1 x"} <= set(lines)
        assert "10.0.0.3 booted" not in lines
    finally:
        two.remove("newcomer")
    assert "newcomer" not in two.plain.read_text("/etc/hosts")


def test_address_that_was_another_machines_is_announced(two: Two) -> None:
    for number in range(2):
        two.add(Machine(DEBIAN, links={"eth0": Two.lan.at(".60")}), name=f"guest{number}")
        assert two.plain.ping("10.0.0.60", timeout_s=1) < 1
        two.remove(f"guest{number}")


# what is the host's


INERT = ("/proc/sys/vm/swappiness", "/sys/kernel/mm/transparent_hugepage/enabled")


def test_settings_of_the_host_are_set_without_effect_and_told_of(machine: MachineHandle) -> None:
    before = [Path(path).read_text() for path in INERT]
    machine.run("sysctl -qw vm.swappiness=10")
    machine.run(f"echo never > {INERT[1]}")
    assert machine.run("sysctl -n vm.swappiness").stdout == "10\n"
    assert machine.run(["cat", INERT[1]]).stdout == "never\n"
    assert [Path(path).read_text() for path in INERT] == before
    changed = machine.inert_settings()
    assert (changed["vm.swappiness"], changed[INERT[1]]) == ("10", "never")


def test_settings_of_the_host_are_refused_where_that_is_wanted(two: Two) -> None:
    for path in INERT:
        # opened, and nothing is written
        assert not two.strict.run(f": >> {path}", check=False).ok
    assert two.strict.inert_settings() == {}


def test_clock_cannot_be_set(machine: MachineHandle) -> None:
    # to what it is
    code = "import time; time.clock_settime(time.CLOCK_REALTIME, time.time())"
    done = machine.run(["python3", "-c", code], check=False)
    assert "PermissionError" in done.stderr
    bounds = int(machine.run("grep CapBnd /proc/self/status").stdout.split()[1], 16)
    assert not bounds & (1 << 25), "programs ask for CAP_SYS_TIME before they try"


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/module/kernel/parameters/panic",
        "/sys/power/state",
        "/dev/mem",
        "/dev/vda",
        "/dev/sda",
        "/dev/loop-control",
        "/proc/kcore",
        "/dev/.carthage/proc/sys/vm/swappiness",
        "/dev/.carthage/proc/sysrq-trigger",
        "/dev/.carthage/sys/kernel/mm/ksm/run",
    ],
)
def test_what_is_the_hosts_cannot_be_opened_for_writing(machine: MachineHandle, path: str) -> None:
    code = f"import os; os.open({path!r}, os.O_WRONLY)"
    done = machine.run(["python3", "-c", code], check=False)
    assert "Error" in done.stderr


def test_programs_that_set_the_hosts_clock_say_that_they_cannot(two: Two) -> None:
    # to what it is
    for line in ("hwclock -w", "timedatectl set-time \"$(date '+%F %T')\""):
        done = two.booted.run(line, check=False)
        assert not done.ok
        assert re.search("Cannot access the Hardware Clock|Failed to set time", done.stderr)
    assert two.booted.run("swapoff -a && cat /proc/swaps").lines[1:] == []


def test_no_node_of_a_device_can_be_made(machine: MachineHandle) -> None:
    assert "not permitted" in machine.run("mknod /root/disk b 254 0", check=False).stderr


def test_agent_beside_an_init_cannot_be_looked_into(two: Two) -> None:
    pid = two.booted.run("grep -l ^cg: /proc/[0-9]*/comm").lines[0].split("/")[2]
    for name in ("environ", "mem", "maps"):
        assert "ermission denied" in two.booted.run(f"cat /proc/{pid}/{name}", check=False).stderr


@pytest.mark.parametrize("proc", ["/proc", "/dev/.carthage/proc"])
def test_first_process_cannot_be_looked_into(two: Two, proc: str) -> None:
    for name in ("mem", "maps", "auxv", "exe", "root", "map_files"):
        code = f"import os; os.readlink({f'{proc}/1/{name}'!r}); open({f'{proc}/1/{name}'!r})"
        if name in ("mem", "maps", "auxv"):
            code = f"open({f'{proc}/1/{name}'!r}, 'rb').read(1)"
        elif name == "map_files":
            code = f"import os; os.listdir({f'{proc}/1/{name}'!r})"
        assert "PermissionError" in two.plain.run(["python3", "-c", code], check=False).stderr
    seen = two.plain.run(f"cat {proc}/1/environ", check=False).stdout
    assert "PATH" not in seen
    assert ("container=lxc" in seen) == (proc == "/proc")


def test_processes_of_a_machine_tell_nothing_of_the_host(machine: MachineHandle) -> None:
    lines = machine.run("ps -eo args").lines
    assert "carthage-agent" in [line.strip() for line in lines]
    assert not [line for line in lines if "python" in line]


def test_log_can_be_opened_as_that_of_the_first_process(build: Build) -> None:
    class Logging(Layout):
        """Has a main process; others print to its log, as programs in containers do."""

        m = Machine(DEBIAN, command="sleep 1000")

    m = build(Logging).m
    m.run("echo told > /proc/1/fd/1; tr '\\0' ' ' < /proc/1/environ")
    m.wait_for(log("told"), timeout_s=5)


def test_kernels_log_is_not_the_hosts(machine: MachineHandle) -> None:
    assert machine.run("head -c1 /dev/kmsg").stdout == ""
    machine.run("echo hello > /dev/kmsg")


# processes


def test_signals_have_their_default_actions(machine: MachineHandle) -> None:
    status = machine.run("cat /proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (int(fields["SigIgn"], 16), int(fields["SigBlk"], 16)) == (0, 0)


@pytest.mark.parametrize("path", ["/dev/stdout", "/proc/self/fd/1", "/dev/stderr"])
def test_output_can_be_opened_by_its_name(machine: MachineHandle, path: str) -> None:
    assert machine.run(f"echo x > {path}", user="nobody").ok


def test_late_output_is_taken_and_a_daemon_is_told_of(machine: MachineHandle) -> None:
    late = machine.run(["bash", "-c", "echo one > >(sleep 0.3; cat); exit 0"])
    assert (late.stdout, late.left_running) == ("one\n", ())
    daemon = "sleep 30 & until grep -q sleep /proc/$!/comm; do :; done"
    kept = machine.run(f"{daemon}; echo started")
    assert (kept.stdout, kept.left_running) == ("started\n", ("sleep 30",))


def test_main_process_is_run_as_its_image_says(build: Build) -> None:
    class Told(Layout):
        """Its image says who, where, with what."""

        m = Machine(
            DEBIAN.with_(
                command=["/bin/sh", "-c", "id -un; pwd; echo $COLOUR > /dev/stdout; sleep 1000"],
                user="nobody",
                workdir="/usr/share",
                env={"COLOUR": "green"},
                name="told",
            )
        )

    m = build(Told).m
    m.run("while ! pgrep -x sleep; do sleep 0.05; done")
    assert m.logs().split() == ["nobody", "/usr/share", "green"]


def test_failed_start_says_what_was_printed_and_leaves_nothing(build: Build) -> None:
    class Failing(Layout):
        """Its main process fails at once."""

        m = Machine(DEBIAN, command="echo no database >&2; exit 3")

    with pytest.raises(CreationError, match=r"(?s)machine 'm'.* status 3.*no database"):
        build(Failing)
    mounts = Path("/proc/self/mounts").read_text()
    assert "carthage-roots" not in mounts
    listing = subprocess.run(
        ["find", "/sys/fs/cgroup", "-maxdepth", "2", "-name", "*failing*"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listing.stdout == ""


def test_agent_that_something_kills_has_a_successor_at_once(two: Two) -> None:
    pid = two.booted.run("grep -l ^cg: /proc/[0-9]*/comm").lines[0].split("/")[2]
    with pytest.raises(FabricError, match=r"machine 'booted'.*has ended the agent.*; try: again"):
        two.booted.run(f"kill -9 {pid}; sleep 30")
    assert two.booted.run("true").ok
    two.booted.run("sh -c '(sleep 0.05; kill -9 $(pgrep ^cg:)) >/dev/null 2>&1 &'")
    time.sleep(0.3)  # nobody asks for anything meanwhile
    assert two.booted.run("true").ok


#: inotify_init1(2), as Debian's smallest Perl can call it
NEW_INOTIFY = f"syscall({26 if os.uname().machine == 'aarch64' else 294}, 0)"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's machines all count as his")
def test_what_one_machine_takes_of_a_users_limit_no_other_lacks(two: Two) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    if limit > 5000:
        pytest.skip(f"a program would need {limit} files open to reach the host's limit")
    script = f"$| = 1; $count++ while {NEW_INOTIFY} >= 0; print $count; sleep 60"
    two.plain.run(f"setsid perl -e '{script}' >/tmp/all 2>&1 </dev/null & echo $! >/tmp/pid")
    two.plain.run("until test -s /tmp/all; do sleep 0.02; done", timeout_s=20)
    try:
        assert limit / 2 < int(two.plain.read_text("/tmp/all")) <= limit
        assert two.plain.run(f"perl -e 'print {NEW_INOTIFY}'").stdout == "-1"
        assert two.booted.run(f"perl -e 'print {NEW_INOTIFY}'").stdout == "3"
    finally:
        two.plain.run("kill -9 $(cat /tmp/pid)")


def test_init_has_the_arguments_of_a_server_and_is_told_the_rest(two: Two) -> None:
    booted = two.booted
    assert booted.run("tr '\\0' ' ' < /proc/1/cmdline").stdout.strip() == "/sbin/init"
    for _ in range(2):
        # a play that enables and starts a timer of the distribution's converges, as on a server
        booted.run("systemctl enable --now apt-daily.timer")
        assert booted.run("systemctl is-active apt-daily.timer").lines == ["active"]
        due = booted.run("systemctl show -p NextElapseUSecRealtime --value apt-daily.timer").stdout
        assert "2199" in due or "2200" in due
        booted.run("systemctl daemon-reload")
    assert booted.run("systemctl is-active console-getty", check=False).lines == ["inactive"]
    assert booted.run("systemctl is-system-running").lines == ["running"]
    booted.run("systemd-cat -t shop echo a line of the journal")
    booted.wait_for(log("a line of the journal"), timeout_s=10)


def test_unit_that_cannot_become_active_is_told_at_once(two: Two) -> None:
    booted = two.booted
    booted.write_text("/etc/systemd/system/broken.service", "[Service]\nExecStart=/bin/false\n")
    booted.run("systemctl daemon-reload; systemctl start broken; systemctl mask --now apt-daily")
    for name, message in {
        "apt-dayly.timer": "no unit apt-dayly.timer; similar: apt-daily.timer",
        "broken": "unit broken has failed (exit-code); try: pytest-carthage exec booted -- "
        "journalctl -u broken",
        "apt-daily": "unit apt-daily is masked; try: systemctl unmask apt-daily",
    }.items():
        begin = time.monotonic()
        with pytest.raises(TimeLimitError) as caught:
            booted.wait_for(unit(name))
        assert message in str(caught.value)
        assert time.monotonic() - begin < 30
    booted.run("systemctl unmask apt-daily; systemctl reset-failed")
    booted.wait_for(unit("systemd-journald"), timeout_s=10)


def test_name_that_was_set_is_there_everywhere_after_a_reboot(build: Build) -> None:
    class Named(Layout):
        """Somebody names it."""

        m = Machine(DEBIAN, init="systemd")

    m = build(Named).m
    # what its init sets by itself is nobody's doing; Debian's own sysctl.d(5) is somebody's
    assert not {"fs.file-max", "fs.nr_open"} & set(m.inert_settings())
    m.write_text("/etc/hostname", "other\n")
    m.run("systemctl reboot", check=False)
    m.wait_for(rebooted(), timeout_s=60)
    assert m.run("hostname; cat /proc/sys/kernel/hostname").lines == ["other", "other"]


def test_play_goes_on_after_a_reboot_when_the_machine_is_set_up(
    build: Build, tmp_path: Path
) -> None:
    class Slow(Layout):
        """Its boot takes a while, and clears /tmp in its course, as all do."""

        m = Machine(DEBIAN.with_packages("python3"), init="systemd")

    slow = build(Slow)
    m = slow.m
    m.write_text(
        "/etc/systemd/system/slow.service",
        "[Unit]\nDefaultDependencies=no\nBefore=systemd-tmpfiles-setup.service\n"
        "[Service]\nType=oneshot\nExecStart=sleep 2\n"
        "[Install]\nWantedBy=sysinit.target\n",
    )
    m.write_text("/etc/tmpfiles.d/tmp.conf", "D! /tmp 1777 root root 0\n")
    m.run("systemctl enable slow.service")
    playbook = tmp_path / "site.yml"
    playbook.write_text(
        "- hosts: all\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - reboot: {reboot_timeout: 60, connect_timeout: 5, post_reboot_delay: 0}\n"
        "    - command: touch /tmp/here\n"
        "    - command: sleep 3\n"
        "    - command: test -e /tmp/here\n"
    )
    slow.ansible(playbook)


def test_main_process_that_ends_is_noticed_at_once(built: Built) -> None:
    class Ending(Layout):
        """Its main process ends."""

        m = Machine(
            DEBIAN, command="echo no more orders; while ! test -e /end; do sleep 0.05; done; exit 3"
        )

    recorder = Recorder()
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}, recorder=recorder) as build,
    ):
        m = build(Ending).m
        m.write_text("/end", "")
        m.wait_for(exited(3), timeout_s=10)
        assert m.run("true").ok
        with pytest.raises(TimeLimitError, match=r"main process ended at .* with status 3"):
            m.wait_for(exited(0), timeout_s=0.1)
    told = [event.text for event in recorder.events if event.kind == "note"]
    assert any("its main process ended at" in text and "with status 3" in text for text in told)


def test_what_was_set_without_effect_is_told_when_the_layout_ends(built: Built) -> None:
    class Setting(Layout):
        """Its playbook sets something of the host."""

        m = Machine(DEBIAN)

    recorder = Recorder()
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}, recorder=recorder) as build,
    ):
        build(Setting).m.run("sysctl -qw vm.swappiness=11")
    told = [event.text for event in recorder.events if event.kind == "note"]
    assert "set here without effect: vm.swappiness=11" in told
