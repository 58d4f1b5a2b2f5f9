"""Machines that are limited, and units of systemd that are: run by other tests, as some user."""

from __future__ import annotations

from pytest_carthage import Layout, Limits, Machine, Network
from tests.providers.conftest import DEBIAN

_LIMITS = Limits(memory_mib=64, cpus=0.5, pids=20)
_TOO_MUCH = ["python3", "-c", "bytearray(200 << 20)"]


class Bounded(Layout):
    """One machine of each kind."""

    lan = Network("10.0.0.0/24")
    bare = Machine(links={"eth0": lan.at(".1")}, limits=_LIMITS)
    plain = Machine(DEBIAN, links={"eth0": lan.at(".2")}, limits=_LIMITS)
    # emulated processors are slow
    booted = Machine(DEBIAN, links={"eth0": lan.at(".3")}, init="systemd", ready_timeout_s=600)


bounded = Bounded.fixture()


def test_limits_hold_for_what_runs_in_a_machine(bounded: Bounded) -> None:
    for machine in (bounded.bare, bounded.plain):
        assert machine.run(_TOO_MUCH, check=False).status in (-9, 1)
        assert machine.run(["python3", "-c", "bytearray(10 << 20)"]).ok
        forks = "for i in $(seq 40); do sleep 5 & done; wait"
        assert "fork" in machine.run(forks, check=False, timeout_s=60).stderr.lower()


def test_units_are_bounded(bounded: Bounded) -> None:
    start = ["systemd-run", "--quiet", "--wait", "--collect"]
    assert bounded.booted.run([*start, "-pMemoryMax=32M", *_TOO_MUCH], check=False).status != 0
    assert bounded.booted.run([*start, *_TOO_MUCH]).ok
    forks = "for i in $(seq 40); do sleep 5 & done"
    few = bounded.booted.run([*start, "--pipe", "-pTasksMax=10", "sh", "-c", forks], check=False)
    assert "fork" in few.stderr.lower()


def test_control_group_is_kept_over_a_reboot(bounded: Bounded) -> None:
    bounded.booted.restart()
    start = ["systemd-run", "--quiet", "--wait", "--collect"]
    assert bounded.booted.run([*start, "-pMemoryMax=32M", *_TOO_MUCH], check=False).status != 0
