"""What a plan takes of the kernel's limits, told before it hurts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_carthage import Image, Layout, Machine, Network
from pytest_carthage.fabric.host import sysctl
from pytest_carthage.placing import quotas
from pytest_carthage.placing.quotas import Demand
from pytest_carthage.planning import make_plan

#: of a host whose administrator has changed nothing
USUAL = {
    "fs.aio-max-nr": 65536,
    "fs.file-max": 2_000_000,
    "fs.inotify.max_user_instances": 128,
    "fs.inotify.max_user_watches": 65536,
    "kernel.keys.maxkeys": 200,
    "kernel.pid_max": 32768,
    "net.ipv4.neigh.default.gc_thresh3": 1024,
    "net.ipv6.neigh.default.gc_thresh3": 1024,
    "user.max_ipc_namespaces": 96365,
    "user.max_mnt_namespaces": 96365,
    "user.max_net_namespaces": 96365,
    "user.max_pid_namespaces": 96365,
    "user.max_user_namespaces": 96365,
    "user.max_uts_namespaces": 96365,
}


def write(proc: Path, values: dict[str, int], free_mib: int = 16_000) -> Path:
    for name, value in values.items():
        file = proc / "sys" / name.replace(".", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    (proc / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {free_mib << 10} kB\n")
    return proc


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return write(tmp_path, USUAL)


def test_some_machines_are_no_trouble(proc: Path) -> None:
    assert quotas.problems("netns", Demand.servers(10), proc, files=1024) == []


def test_demand_is_that_of_the_machines_of_a_target() -> None:
    class Both(Layout):
        """Two on a network, one of them with systemd."""

        lan = Network("10.0.0.0/24")
        web = Machine(Image.debian("bookworm"), init="systemd", links={"eth0": lan.at(".1")})
        bare = Machine(links={"eth0": lan.at(".2")})

    plan = make_plan(Both)
    assert Demand.of(plan, "netns") == Demand(
        machines=2, containers=1, booted=1, links=2, neighbours4=2
    )
    assert Demand.of(plan, "other") == Demand(machines=0)


def test_what_is_certain_not_to_do_is_no_guess(proc: Path) -> None:
    (guess,) = quotas.problems("netns", Demand(machines=18, booted=18), proc, files=1024)[:1]
    assert guess.is_guess
    assert "18 machines (18 with systemd) take about 126 inotify instances, and this host" in (
        guess.what
    )
    assert "gives 128 (fs.inotify.max_user_instances)" in guess.what
    (certain,) = quotas.problems("netns", Demand(machines=23, booted=23), proc, files=1024)[:1]
    assert not certain.is_guess
    assert certain.settings == {"fs.inotify.max_user_instances": 1024}
    assert certain.remedy.startswith("sysctl -w fs.inotify.max_user_instances=1024, or ")
    assert certain.remedy.endswith("pytest-carthage doctor --machines 23 --fix")


@pytest.mark.parametrize(
    ("setting", "value", "is_guess"),
    [
        ("fs.aio-max-nr", 1000, True),
        ("fs.file-max", 500, False),
        ("fs.inotify.max_user_instances", 8, False),
        ("fs.inotify.max_user_watches", 900, True),
        ("kernel.keys.maxkeys", 5, True),
        ("kernel.pid_max", 50, False),
        ("net.ipv4.neigh.default.gc_thresh3", 80, True),
        ("net.ipv6.neigh.default.gc_thresh3", 80, True),
        ("user.max_ipc_namespaces", 9, False),
        ("user.max_mnt_namespaces", 9, False),
        ("user.max_net_namespaces", 9, False),
        ("user.max_pid_namespaces", 9, False),
        ("user.max_user_namespaces", 0, False),
        ("user.max_user_namespaces", 20, True),
        ("user.max_uts_namespaces", 9, False),
    ],
)
def test_each_limit_is_seen(proc: Path, setting: str, value: int, is_guess: bool) -> None:
    write(proc, {setting: value})
    (problem,) = quotas.problems("netns", Demand.servers(10), proc, files=1024)
    assert (list(problem.settings), problem.is_guess) == ([setting], is_guess)
    assert f"this host gives {value} ({setting})" in problem.what
    assert problem.settings[setting] >= 2 * 10


def test_what_users_have_is_counted_for_each_container_where_each_has_an_owner(proc: Path) -> None:
    write(proc, {"kernel.pid_max": 4_194_304, "user.max_net_namespaces": 9})
    demand = Demand.servers(100, is_apart=True)
    settings = {
        name for one in quotas.problems("netns", demand, proc, files=4096) for name in one.settings
    }
    assert settings == {
        "net.ipv4.neigh.default.gc_thresh3",
        "net.ipv6.neigh.default.gc_thresh3",
    }
    write(proc, {"fs.inotify.max_user_instances": 2})
    problem = next(
        one
        for one in quotas.problems("netns", demand, proc, files=4096)
        if "fs.inotify.max_user_instances" in one.settings
    )
    assert problem.what == (
        "each user of 100 machines (100 with systemd) takes about 7 inotify instances, and this "
        "host gives 2 (fs.inotify.max_user_instances)"
    )
    assert problem.is_guess


def test_machines_without_images_are_their_starters_all_together(proc: Path) -> None:
    write(proc, {"user.max_net_namespaces": 30})
    few = Demand(machines=20, containers=10, is_apart=True)
    assert few.of_one_user == Demand(machines=11, containers=1, is_apart=True)
    assert quotas.problems("netns", few, proc, files=4096) == []
    (problem,) = quotas.problems("netns", Demand(machines=20), proc, files=4096)
    assert list(problem.settings) == ["user.max_net_namespaces"]


def test_open_files_of_the_fabric_are_seen(proc: Path) -> None:
    (problem,) = quotas.problems("netns", Demand(machines=100, links=100), proc, files=1024)
    assert problem.is_guess
    assert "has about 1600 open files, and a process may have 1024 here" in problem.what
    (problem,) = quotas.problems("netns", Demand(machines=100, links=100), proc, files=64)
    assert not problem.is_guess


def test_lack_of_memory_is_expected_and_forbids_nothing(tmp_path: Path) -> None:
    write(tmp_path, USUAL, free_mib=100)
    (problem,) = quotas.problems("netns", Demand.servers(10), tmp_path, files=1024)
    assert problem.is_guess
    assert "about 400 MiB of memory" in problem.what
    assert "100 MiB are free" in problem.what


def test_kernel_that_has_no_such_limits_is_told_nothing(tmp_path: Path) -> None:
    assert quotas.problems("netns", Demand.servers(1000), tmp_path, files=1 << 20) == []


# raised


def test_raised_settings_are_enough_and_stay(proc: Path, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    demand = Demand.servers(100)

    def wanted() -> dict[str, int]:
        problems = quotas.problems("netns", demand, proc, files=4096)
        return {name: value for one in problems for name, value in one.settings.items()}

    done = sysctl.keep(wanted(), proc, etc)
    file = etc / "sysctl.d" / "90-pytest-carthage.conf"
    assert f"fs.inotify.max_user_instances: 128, now 2048, and so at each boot by {file}" in done
    assert wanted() == {}
    assert "fs.inotify.max_user_instances = 2048\n" in file.read_text()


def test_what_was_raised_before_is_kept_and_nothing_is_lowered(proc: Path, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    sysctl.keep({"kernel.pid_max": 40_000}, proc, etc)
    sysctl.keep({"kernel.keys.maxkeys": 4096, "fs.file-max": 7}, proc, etc)
    assert sysctl.read("fs.file-max", proc) == USUAL["fs.file-max"]
    lines = (etc / "sysctl.d" / "90-pytest-carthage.conf").read_text().splitlines()
    assert lines[1:] == ["kernel.pid_max = 40000", "kernel.keys.maxkeys = 4096"]
    assert sysctl.keep({"kernel.pid_max": 40_000}, proc, etc) == []
