"""Children are forked without what modules have registered, and as they should be all the same."""

from __future__ import annotations

import json

from tests.fabric.alone import alone

HEAD = """
import os, signal, sys, threading, time
from pytest_carthage.fabric import birth, syscalls as sys_
def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def test_child_has_one_thread_starts_programs_and_threads_and_says_how_it_ends() -> None:
    said = alone(
        HEAD
        + """
import subprocess
def body():
    print("child", os.getpid() != parent, os.getppid() == parent, flush=True)
    print(subprocess.run(["echo", "by it"], stdout=subprocess.PIPE).stdout, flush=True)
    thread = threading.Thread(target=lambda: print("thread", flush=True))
    thread.start()
    thread.join()
parent = os.getpid()
os.register_at_fork(after_in_child=lambda: print("registered", flush=True))
print(end(birth.fork(body, keep=())))
print(end(birth.fork(lambda: sys.exit(3), keep=())))
"""
    )
    assert said.splitlines()[:4] == ["child True True", "b'by it\\n'", "thread", "0"]
    assert said.splitlines()[-1] == "1"
    assert "registered" not in said


def test_child_takes_signals_as_any_program_does() -> None:
    said = alone(
        HEAD
        + """
for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
    signal.signal(number, lambda number, frame: print("the parent's", flush=True))
for number in (signal.SIGTERM, signal.SIGINT):
    pid = birth.fork(lambda: time.sleep(60), keep=())
    time.sleep(0.2)
    os.kill(pid, number)
    while True:
        try:
            print(end(pid), flush=True)
            break
        except InterruptedError:
            continue
"""
    )
    assert [line for line in said.splitlines() if line != "the parent's"] == ["-15", "-2"]


def test_child_has_no_descriptor_but_those_that_it_was_given() -> None:
    said = alone(
        HEAD
        + """
reading, writing = os.pipe()
kept, other = os.pipe()
pid = birth.fork(lambda: print(sorted(map(int, os.listdir("/proc/self/fd"))), flush=True),
                 keep=(kept,))
print(end(pid), [0, 1, 2, kept])
"""
    )
    inside, _, outside = said.partition("\n")
    given = json.loads(outside.split(" ", 1)[1])
    # one more is that of the folder in which it looks
    assert set(given) < set(json.loads(inside))
    assert len(json.loads(inside)) == len(given) + 1
