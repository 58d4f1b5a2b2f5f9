"""Nobody is ended for having the number of a process that was waited for before."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.fabric.alone import alone
from tests.fabric.bare import Fabric
from tests.fabric.test_outliving import impairment, lan

pytestmark = pytest.mark.real

LAST = Path("/proc/sys/kernel/ns_last_pid")
#: in a PID namespace of its own, where it says which number is next
HEAD = """
import os, signal, subprocess, sys, time
def next_is(pid):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid - 1))
def victim(pid):
    "A process that leads a group of this number, whose own it is by now."
    next_is(pid)
    process = subprocess.Popen(["sleep", "100"], start_new_session=True)
    assert process.pid == pid, (process.pid, pid)
    return process
def lives(process):
    time.sleep(0.1)
    print("lives" if process.poll() is None else "killed", flush=True)
"""


def renumbered(script: str) -> str:
    """Run a script that chooses the numbers of processes; returns what it printed."""
    if not LAST.exists():
        pytest.skip(f"no {LAST}: this kernel lets nobody choose a number")
    return alone(HEAD + script)


def test_number_can_be_had_again_in_these_tests() -> None:
    assert renumbered("""
first = subprocess.Popen(["true"])
first.wait()
other = victim(first.pid)
os.killpg(first.pid, signal.SIGKILL)
lives(other)
""") == ("killed\n")


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_group_whose_leader_was_waited_for_is_not_another_of_its_number(kernel: str) -> None:
    old = """
send = signal.pidfd_send_signal
def refuse(fd, number, info=None, flags=0):
    if flags:
        raise OSError(22, "Invalid argument")
    send(fd, number, info)
signal.pidfd_send_signal = refuse
"""
    said = renumbered(
        (old if kernel == "old" else "")
        + """
from pytest_carthage.fabric.host.group import Group
first = subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True)
group = Group(first.pid)
first.communicate()
other = victim(first.pid)
group.kill()
lives(other)
third = subprocess.Popen(["sh", "-c", "sleep 100 & sleep 100"], start_new_session=True,
                         stdout=subprocess.PIPE)
group = Group(third.pid)
group.kill()
print(third.stdout.read(), third.wait())
"""
    )
    assert said == "lives\nb'' -9\n"


def test_group_of_a_leader_that_was_waited_for_at_once_is_nobody() -> None:
    assert (
        renumbered("""
from pytest_carthage.fabric.host.group import Group
first = subprocess.Popen(["true"], start_new_session=True)
first.wait()
group = Group(first.pid)
other = victim(first.pid)
group.kill()
group.close()
lives(other)
""")
        == "lives\n"
    )


def test_job_that_has_ended_is_not_another_of_its_number() -> None:
    assert (
        renumbered("""
from pytest_carthage.fabric.jobs import Jobs
jobs = Jobs()
first = subprocess.Popen(["true"], start_new_session=True)
number = jobs.register(first, None, {"id": 1})
_, status = os.waitpid(first.pid, 0)
assert jobs.ended(first.pid, status)
other = victim(first.pid)
jobs.handlers["kill"](None, {"job": number, "signal": signal.SIGKILL}, [])
lives(other)
print(jobs.handlers["wait"](None, {"job": number, "id": 2}, []).fields)
""")
        == "lives\n{'status': 0}\n"
    )


def test_frozen_process_that_ended_is_not_another_of_its_number() -> None:
    assert (
        renumbered("""
from pytest_carthage.fabric import processes
first = subprocess.Popen(["sleep", "100"])
start = processes._fields(first.pid)[19]
first.kill()
first.wait()
time.sleep(0.05)
other = victim(first.pid)
other.send_signal(signal.SIGSTOP)
while processes._fields(other.pid)[0] != "T":
    time.sleep(0.01)
processes.thaw([(first.pid, start)])
time.sleep(0.1)
print(processes._fields(other.pid)[0])
processes.thaw([(other.pid, processes._fields(other.pid)[19])])
time.sleep(0.1)
print(processes._fields(other.pid)[0])
""")
        == "T\nS\n"
    )


def inside(fabric: Fabric, script: str) -> str:
    """Run a shell script of the host in the fabric; returns what it printed."""
    with fabric.client() as asking, tempfile.TemporaryFile() as file:
        fds = (file.fileno(), file.fileno(), file.fileno())
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        asking.request("inside", argv=["sh", "-c", script], env=env, fds=fds)
        file.seek(0)
        return file.read().decode()


def test_relay_that_has_ended_is_not_another_of_its_number(fabric: Fabric) -> None:
    lan(fabric, "a1")
    fault = fabric.ask("disturb", **impairment("a1", delay_s=0.01))
    if fault["mechanism"] != "relay":
        pytest.skip(f"links are impaired by {fault['mechanism']} here")
    relay = inside(fabric, "for p in /proc/[0-9]*; do grep -l ^cg-relay $p/comm; done")
    number = int(relay.split("/")[2])
    inside(fabric, f"kill -9 {number}; while test -e /proc/{number}; do sleep 0.01; done")
    taken = f"echo {number - 1} > {LAST}; sleep 100 >/dev/null 2>&1 </dev/null & echo $!"
    assert inside(fabric, taken) == f"{number}\n"
    fabric.ask("heal", number=fault["number"])
    assert inside(fabric, f"cat /proc/{number}/comm") == "sleep\n"
