"""All processes of a machine: stopped, continued and ended at once, and nobody else."""

from __future__ import annotations

import pytest

from tests.fabric.alone import alone

pytestmark = pytest.mark.real

#: a machine is a PID namespace below the one in which this runs, with one more below it
HEAD = """
import os, signal, subprocess, sys, time
from pytest_carthage.fabric import processes
from pytest_carthage.fabric.wire.steps import finish

def machine(script):
    "The first process of a new PID namespace, which runs a script of the shell."
    around = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    starter = subprocess.Popen(around, start_new_session=True, stderr=subprocess.DEVNULL)
    first = None
    while first is None:
        found = open(f"/proc/{starter.pid}/task/{starter.pid}/children").read().split()
        first = int(found[0]) if found else None
    return starter, first

def states(first):
    members = processes._Members(first).pids()
    return sorted(processes._fields(pid)[0] for pid in members)

def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.01)
"""


def test_freeze_stops_all_that_are_below_and_thaw_continues_them() -> None:
    said = alone(
        HEAD
        + """
nested = "unshare --pid --fork --kill-child sleep 100"
starter, first = machine(f"sleep 100 & {nested} & wait")
until(lambda: len(states(first)) == 4)
beside = subprocess.Popen(["sleep", "100"])
until(lambda: processes._fields(beside.pid)[0] == "S")
stopped = finish(processes.freeze(first))
print(len(stopped), states(first), processes._fields(beside.pid)[0], processes._fields(1)[0])
processes.thaw(stopped)
until(lambda: states(first) == ["S"] * len(states(first)))
print(states(first))
"""
    )
    assert said == "4 ['T', 'T', 'T', 'T'] S R\n['S', 'S', 'S', 'S']\n"


def test_process_that_was_stopped_before_stays_so() -> None:
    said = alone(
        HEAD
        + """
starter, first = machine("sleep 100 & kill -STOP $!; wait")
until(lambda: "T" in states(first))
stopped = finish(processes.freeze(first))
print(len(stopped), states(first))
processes.thaw(stopped)
until(lambda: states(first) == ["S", "T"])
print(states(first))
"""
    )
    assert said == "1 ['T', 'T']\n['S', 'T']\n"


def test_machine_that_forks_all_the_time_is_frozen_whole() -> None:
    said = alone(
        HEAD
        + """
starter, first = machine("while :; do (sleep 0.001 &) ; done")
time.sleep(0.3)
stopped = finish(processes.freeze(first))
before = processes._Members(first).pids()
time.sleep(0.2)
after = processes._Members(first).pids()
print(set(states(first)) <= set("TZX"), before == after, len(stopped) > 0)
"""
    )
    assert said == "True True True\n"


def test_freeze_that_does_not_come_to_an_end_lets_all_go_on() -> None:
    said = alone(
        HEAD
        + """
processes._STOP_S = 0.3
starter, first = machine("sleep 100 & wait")
until(lambda: len(states(first)) == 2)
fields = processes._fields
# as of one that is in the kernel for good, and was not met before
processes._fields = lambda pid: ["R", *fields(pid)[1:]] if pid == first else fields(pid)
try:
    finish(processes.freeze(first))
except OSError as error:
    print(error)
print("first is", first)
processes._fields = fields
until(lambda: states(first) == ["S"] * len(states(first)))
print(states(first))
"""
    )
    first = int(said.splitlines()[1].split()[-1])
    assert said == (
        f"processes that do not stop within 0.3 s: [{first}]\nfirst is {first}\n['S', 'S']\n"
    )


def test_kill_ends_all_that_are_below_and_nobody_beside() -> None:
    said = alone(
        HEAD
        + """
nested = "unshare --pid --fork --kill-child sleep 100"
starter, first = machine(f"trap '' TERM HUP INT; setsid sleep 100 & {nested} & wait")
until(lambda: len(states(first)) == 4)
beside = subprocess.Popen(["sleep", "100"])
begin = time.monotonic()
finish(processes.kill_all(first))
print(time.monotonic() - begin < 3, beside.poll())
starter.wait()
print(os.path.exists(f"/proc/{first}"))
print(processes._fields(beside.pid)[0] in "RS")
"""
    )
    assert said == "True None\nFalse\nTrue\n"


def test_kill_of_a_machine_that_is_gone_is_told() -> None:
    assert (
        alone(
            HEAD
            + """
starter, first = machine("sleep 100")
os.kill(first, signal.SIGKILL)
starter.wait()
try:
    finish(processes.kill_all(first))
except FileNotFoundError as error:
    print(error.strerror)
"""
        )
        == "No such file or directory\n"
    )
