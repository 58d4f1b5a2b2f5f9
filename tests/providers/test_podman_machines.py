"""Machines of the podman target, for real: what is in them, power, limits, failures, the end."""

from __future__ import annotations

import asyncio
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Image, Layout, Limits, Machine, Network, TimeLimitError, log, port, unit
from pytest_carthage.errors import CommandError, CreationError
from pytest_carthage.fabric.host import privilege
from pytest_carthage.provider import Identity
from pytest_carthage.providers.podman import PodmanProvider, host
from tests.live.conftest import end

from .conftest import DEBIAN, Build
from .traces import assert_none, traces

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

# the shell that waits for it is replaced, so that its child belongs to nobody
ORPHAN = "sh -c 'sleep 0.05 & exec true'"


#: takes 200 MiB; Debian's smallest Perl is everywhere
HOG = "perl -e '$x = q(x) x (200 << 20)'"


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(DEBIAN, links={"eth0": lan.at(".1")}, env={"COLOUR": "green"}, hostname="alpha")
    b = Machine(DEBIAN, links={"eth0": lan.at(".2")})


class Booted(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(
        DEBIAN,
        links={"eth0": lan.at(".1")},
        init="systemd",
        wait_for=[unit("dbus"), log("Startup finished")],
    )


class Small(Layout):
    a = Machine(DEBIAN, limits=Limits(memory_mib=64))
    b = Machine(DEBIAN, limits=Limits(memory_mib=64), command=f"sleep 1; exec {HOG}")


def test_want_of_memory_is_told_as_that(build: Build) -> None:
    if not privilege.is_privileged():
        pytest.skip("limits need root's control groups")
    small = build(Small)
    with pytest.raises(CommandError, match=r"for want of memory since .*: its limit is 64 MiB"):
        small.a.run(f"exec {HOG}")
    with pytest.raises(CommandError) as caught:
        small.a.run("kill -9 $$")
    assert "memory" not in str(caught.value)
    with pytest.raises(TimeLimitError, match="killed a process of it for want of memory"):
        small.b.wait_for(port(80), timeout_s=30)


def test_machine_knows_itself_and_the_others_by_name(build: Build) -> None:
    pair = build(Pair)
    a, b = pair["a"], pair["b"]
    assert a.run("hostname").lines == ["alpha"]
    assert a.read_text("/etc/hosts").splitlines()[3:5] == ["10.0.0.1 alpha a", "10.0.0.2 b"]
    assert a.read_text("/etc/resolv.conf").startswith("# a machine of a sealed layout")
    assert "10.0.0.2/24" in b.run("ip -4 -br address show eth0").stdout
    assert b.run("ping -c1 -W2 alpha", user="nobody").ok
    assert not b.run("ip route get 192.0.2.1", check=False).ok


def test_machine_environment_is_the_layouts_and_not_the_hosts(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    a = build(Pair)["a"]
    lines = a.run("env", user="nobody").lines
    assert {"COLOUR=green", "LANG=C.UTF-8", "HOME=/nonexistent", "USER=nobody"} <= set(lines)
    first = a.run("tr '\\0' '\\n' < /proc/1/environ").lines
    assert "COLOUR=green" in first
    assert not [line for line in lines + first if "SECRET" in line or "proxy" in line.lower()]


def test_machine_may_shape_its_own_network_and_nothing_of_the_hosts(build: Build) -> None:
    a = build(Pair)["a"]
    assert a.run("ip link add one type veth peer name two && ip link del one").ok
    with pytest.raises(CommandError):
        a.run("mount -t tmpfs tmpfs /mnt")
    with pytest.raises(CommandError):
        a.run("echo x > /proc/sys/kernel/core_pattern")


def test_first_process_reaps_what_services_leave(build: Build) -> None:
    a = build(Pair)["a"]
    a.run(ORPHAN)
    deadline = time.monotonic() + 10
    while "sleep 0.05" in (seen := a.run("ps -eo stat,args").stdout) or "<defunct>" in seen:
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)


def test_machine_stopped_and_started_keeps_its_files_and_links(build: Build) -> None:
    pair = build(Pair)
    a, b = pair["a"], pair["b"]
    a.write_text("/srv/kept", "still here")
    begin = time.monotonic()
    a.stop()
    assert time.monotonic() - begin < 5, "its first process did not end when asked to"
    assert not b.run("ping -c1 -W1 a", check=False).ok
    a.start()
    assert a.read_text("/srv/kept") == "still here"
    assert b.run("ping -c1 -W2 a").ok
    a.restart()
    assert a.run("hostname").ok


def test_systemd_machine_is_ready_when_booted(build: Build) -> None:
    booted = build(Booted)
    a = booted["a"]
    assert a.run("systemctl is-system-running").lines == ["running"]
    assert a.run("tr '\\0' ' ' < /proc/1/cmdline").stdout.strip() == "/sbin/init"
    due = a.run("systemctl show -p NextElapseUSecRealtime --value apt-daily.timer").stdout
    assert "2199" in due or "2200" in due
    a.run("logger told to the journal")
    a.wait_for(log("told to the journal"), timeout_s=10)
    begin = time.monotonic()
    a.stop()
    assert time.monotonic() - begin < 5, "systemd waited for something"
    a.start()
    assert a.run("systemctl is-system-running").lines == ["running"]


def test_command_is_the_first_process_and_its_output_the_log(build: Build) -> None:
    class Talker(Layout):
        a = Machine(DEBIAN, command=["sh", "-c", "echo out; echo err >&2; sleep infinity"])

    a = build(Talker)["a"]
    a.wait_for(log("err"), timeout_s=10)
    assert sorted(a.logs().splitlines()) == ["err", "out"]
    assert "echo out" in a.run("tr '\\0' ' ' < /proc/1/cmdline").stdout


def test_command_that_ends_at_once_is_an_error_with_its_last_words(build: Build) -> None:
    class Failing(Layout):
        a = Machine(DEBIAN, command=["sh", "-c", "echo no such database; exit 3"])

    with pytest.raises(
        CreationError,
        match=r"machine 'a' of layout 'Failing': its first process 'sh -c echo no such .* ended "
        r"at once with status 3; log: .*a.log, which ends:\n  no such database",
    ):
        build(Failing)


def test_command_that_is_missing_is_an_error_in_podmans_words(build: Build) -> None:
    class Missing(Layout):
        a = Machine(DEBIAN, command=["no-such-program"])

    with pytest.raises(CreationError, match=r"machine 'a' of layout 'Missing': .*no-such-program"):
        build(Missing)


def test_limits_reach_the_kernel(build: Build) -> None:
    class Small(Layout):
        a = Machine(DEBIAN, limits=Limits(memory_mib=64, cpus=0.5, pids=50))

    a = build(Small)["a"]
    # v1, then v2
    memory = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    assert a.run(memory, check=False).lines == [str(64 << 20)]
    quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max"
    assert a.run(quota, check=False).lines[0].split()[0] == "50000"
    assert "Cannot fork" in a.run("for i in $(seq 100); do sleep 5 & done", check=False).stderr


def test_machines_join_and_leave_a_live_layout(build: Build) -> None:
    pair = build(Pair)
    machine = Machine(DEBIAN, links={"eth0": Pair.lan.at(".9")})
    for _ in range(2):
        added = pair.add(name="c", machine=machine)
        assert added.run("ping -c1 -W2 b").ok
        assert pair["a"].run("ping -c1 -W2 c").ok
        pair.remove("c")
        assert "10.0.0.9" not in pair["a"].read_text("/etc/hosts")


def test_failed_machine_can_be_added_again(build: Build) -> None:
    pair = build(Pair)
    links = {"eth0": Pair.lan.at(".9")}
    with pytest.raises(CreationError):
        pair.add(name="c", machine=Machine(DEBIAN, links=links, command=["no-such-program"]))
    assert pair.add(name="c", machine=Machine(DEBIAN, links=links)).run("hostname").lines == ["c"]


def test_two_copies_of_a_layout_do_not_meet(build: Build) -> None:
    one, two = build(Pair), build(Pair)
    one["a"].write_text("/srv/who", "one")
    with pytest.raises(FileNotFoundError):
        two["a"].read_text("/srv/who")
    one["b"].stop()
    assert not one["a"].run("ping -c1 -W1 b", check=False).ok
    assert two["a"].run("ping -c1 -W2 b").ok


def test_machines_of_two_targets_share_a_network(build: Build) -> None:
    class Mixed(Layout):
        lan = Network("10.0.0.0/24")
        a = Machine(DEBIAN, links={"eth0": lan.at(".1")})
        b = Machine(on="netns", links={"eth0": lan.at(".2")})

    assert build(Mixed)["a"].run("ping -c1 -W2 b").ok


def test_closed_environment_leaves_nothing(build: Build, state: Path) -> None:
    booted = build(Booted)
    assert traces(booted.name), "this test looks at the wrong place"
    end(booted)
    assert_none(booted.name)
    assert not booted.folder.exists()


def test_destroying_what_is_gone_is_no_error(podman: PodmanProvider, state: Path) -> None:
    identity = Identity(kind="podman", run="r1", environment="r1-shop", name="db")
    asyncio.run(podman.destroy(identity))
    asyncio.run(podman.destroy(identity.with_detail(folder=str(state / "runs/r1/envs/r1-shop"))))
    assert asyncio.run(podman.leftovers("r1")) == ()


def test_service_that_does_not_start_is_an_error_with_its_words(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.Engine, "configuration", lambda self: "[engine]\nruntime = 7\n")
    begin = time.monotonic()
    with pytest.raises(CreationError, match=r"podman's service ended; it printed: .+") as caught:
        build(Pair)
    assert "try: podman info" in str(caught.value)
    assert time.monotonic() - begin < 10, "its end was not noticed"


def test_image_that_is_not_there_is_an_error_with_similar_ones(build: Build) -> None:
    class Mistyped(Layout):
        a = Machine(Image.oci("localhost/no-such-image:1"))

    with pytest.raises(CreationError, match=r"localhost/no-such-image:1.*not in this host's store"):
        build(Mistyped)


def test_paths_may_be_longer_than_a_socket_address(
    build: Build, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARTHAGE_STATE", str(state / ("long" * 30)))
    pair: Layout = build(Pair)
    assert pair["a"].run("hostname").ok


@pytest.fixture
def small_disk(state: Path) -> Iterator[Path]:
    """A state folder on a disk that is all but full."""
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", state], check=True)
    yield state
    deadline = time.monotonic() + 15
    while subprocess.run(["umount", state], capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, "the supervisor still works there"
        time.sleep(0.1)


def test_full_disk_is_told_with_what_is_free(small_disk: Path, build: Build) -> None:
    with pytest.raises(
        CreationError,
        match=rf"no space left on device; {small_disk} has 0 MiB free; try: make room",
    ):
        build(Pair)


@pytest.mark.parametrize("layout", [Pair, Booted])
def test_commands_may_do_what_the_first_process_of_a_container_may(
    build: Build, layout: type[Layout]
) -> None:
    a = build(layout)["a"]

    def rights(process: str) -> dict[str, str]:
        lines = [line.split(":") for line in a.read_text(f"/proc/{process}/status").splitlines()]
        names = ("Seccomp", "Seccomp_filters", "NoNewPrivs", "CapBnd", "CapInh", "CapAmb")
        return {name: value.strip() for name, value in lines if name in names}

    first = rights("1")
    assert first["Seccomp"] == "2", "podman filters no calls here: nothing is tested"
    own = a.run("echo $$; sleep 60 >/dev/null 2>&1 & echo $!").lines[1]
    assert rights(own) == first
    # kcmp(2), comparing a process with itself: root may, and podman's filter forbids it
    number = 312 if platform.machine() == "x86_64" else 272
    script = f"$p = $$ + 0; print syscall({number}, $p, $p, 1, 0, 0), $!"
    assert a.run(["perl", "-e", script]).stdout == "-1Operation not permitted"
