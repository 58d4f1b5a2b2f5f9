"""What hosts that exist do to those who use them: they reboot, hang, are wanted by two at once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import CreationError, FabricError
from tests.support.layouts import Build, end
from tests.support.rack import LEASE, Rack
from tests.support.reserving import NEEDS_RACK, alone, answers, deputy, leased, live, refused, until

pytestmark = NEEDS_RACK

PASSWORD = "s3cr3t-of-ci"
BROKEN = "its lease was broken while it was used; nothing more is done there"


# reboots


@pytest.mark.parametrize("python", [True, False], ids=["agent", "commands"])
def test_host_that_reboots_is_reached_again_and_stays_reserved(
    build: Build, own_host: Rack, python: bool
) -> None:
    if not python:
        own_host.hide("python3")
    lab: Any = build(alone(own_host.settings()))
    before = lab.db.run("cat /proc/sys/kernel/random/boot_id").stdout
    record = leased(own_host)
    own_host.reboot()
    until(lambda: answers(lab.db), "it is not reached again")
    assert lab.db.run("cat /proc/sys/kernel/random/boot_id").stdout != before
    assert leased(own_host) == record  # in /run, which was emptied
    own_host.run(f"rm {LEASE}")  # by hand, in the same boot
    own_host.run("kill -9 -1", check=False)
    until(lambda: _says(lab.db, BROKEN), "it is used on")
    end(lab)
    assert "pytest-carthage" not in own_host.run("ls /run/lock")


def test_host_that_somebody_else_took_while_it_rebooted_is_left_to_him(
    build: Build, own_host: Rack
) -> None:
    lab: Any = build(alone(own_host.settings()))
    own_host.reboot()
    theirs = f"{int(time.time()) + 600} " + json.dumps({"id": "x", "owner": "eve on far"})
    own_host.run(f"ln -sfn '{theirs}' {LEASE}")
    until(lambda: _says(lab.db, "it is eve on far's now"), "it is used on")
    end(lab)
    assert own_host.run(f"readlink {LEASE}") == f"{theirs}\n"


def _says(machine: Any, text: str) -> bool:
    try:
        machine.run("true")
    except FabricError as error:
        return text in str(error)
    return False


# silence


def test_host_that_hangs_in_mid_command_is_told_in_time(build: Build, own_host: Rack) -> None:
    lab: Any = build(alone(own_host.settings()))
    threading.Timer(1.0, own_host.hang).start()
    begin = time.monotonic()
    with pytest.raises(FabricError, match=r"ssh root@db1\.lab: the connection was lost"):
        lab.db.run("sleep 60", timeout_s=50)
    assert time.monotonic() - begin < 35
    own_host.go_on()
    until(lambda: answers(lab.db), "it is not reached again")
    end(lab)
    assert own_host.run("ls /run/lock") == ""


# who answers for it


@pytest.mark.parametrize("python", [True, False], ids=["agent", "commands"])
def test_deputy_that_is_killed_is_told_at_once_to_whom_it_served_and_has_a_successor(
    build: Build, own_host: Rack, python: bool
) -> None:
    if not python:
        own_host.hide("python3")
    with live(build, own_host.settings(lease_s=10, on_return="touch /tmp/restored")) as lab:
        way, before, record = lab.db.way, deputy(own_host), leased(own_host)
        threading.Timer(1.0, os.kill, (before, signal.SIGKILL)).start()
        began = time.monotonic()
        with pytest.raises(
            FabricError,
            match=r"machine 'db' of layout 'Lab': its deputy, the process of this host that "
            r"answers for it, ended at .*, and another one takes its place; what it was doing is "
            r"ended; try: again",
        ):
            lab.db.run("sleep 4711", timeout_s=60)
        assert time.monotonic() - began < 6
        assert lab.db.run("echo here").stdout == "here\n"
        assert lab.db.way == way
        assert deputy(own_host) != before
        until(lambda: "sleep 4711" not in str(own_host.processes()), "it goes on")
        assert own_host.run("ls /tmp") == ""  # it was never given back
        assert json.loads(leased(own_host))["id"] == json.loads(record)["id"]
        ends = own_host.run(f"readlink {LEASE}").partition(" ")[0]
        until(lambda: own_host.run(f"readlink {LEASE}").partition(" ")[0] != ends, "not renewed")
        os.kill(deputy(own_host), signal.SIGKILL)  # while nobody asks
        assert lab.db.run("echo here").stdout == "here\n"
    assert own_host.run("ls /tmp /run/lock").split() == ["/run/lock:", "/tmp:", "restored"]


def test_successor_of_a_deputy_leaves_a_host_alone_whose_lease_was_broken_meanwhile(
    build: Build, own_host: Rack
) -> None:
    with live(build, own_host.settings()) as lab:
        own_host.run(f"rm {LEASE}")
        os.kill(deputy(own_host), signal.SIGKILL)
        until(lambda: _says(lab.db, BROKEN), "it is used on")
        assert leased(own_host) == ""


def test_successor_of_a_deputy_comes_as_soon_as_the_host_is_reached(
    build: Build, own_host: Rack
) -> None:
    config = "/etc/ssh/rack_sshd_config"
    with live(build, own_host.settings()) as lab:
        own_host.run(f"mv {config} {config}.away")
        os.kill(deputy(own_host), signal.SIGKILL)
        until(lambda: _says(lab.db, "its deputy, the process of this host"), "it is not told")
        until(lambda: _says(lab.db, "ssh root@db1.lab: it cannot be reached"), "why is not told")
        own_host.run(f"mv {config}.away {config}")
        until(lambda: answers(lab.db), "it has no successor")
    assert own_host.run("ls /run/lock") == ""


def test_host_whose_deputy_is_gone_is_nobody_elses_for_that(build: Build, own_host: Rack) -> None:
    with live(build, own_host.settings()):
        process = deputy(own_host)
        os.kill(process, signal.SIGSTOP)  # no successor comes between
        try:
            assert "it is in use by" in refused(build, own_host.settings())
            assert json.loads(leased(own_host))["holder"]["pid"] != process
        finally:
            os.kill(process, signal.SIGKILL)


# what leads to it


def _stubborn(host: Rack, seconds: int) -> str:
    """A ProxyCommand that does not care whether anybody is there, and has started something."""
    words = f"{host.proxy_command} & trap : TERM HUP PIPE; sleep {seconds}; sleep {seconds}"
    return f"sh -c 'exec 3<&0; {words.replace(' &', ' <&3 &', 1)}'"


def _runs(seconds: int) -> bool:
    words = f"sleep\0{seconds}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes() == words:
                return True
    return False


def test_proxy_command_that_ignores_its_end_is_ended_with_its_connection(
    build: Build, own_host: Rack
) -> None:
    on = own_host.settings(proxy_command=_stubborn(own_host, 47471))
    with live(build, on) as lab:
        assert lab.db.run("echo here").stdout == "here\n"
        assert _runs(47471)
    until(lambda: not _runs(47471), "it goes on", 10)


def test_proxy_command_that_ignores_its_end_is_ended_where_nobody_is_let_in(
    build: Build, own_host: Rack
) -> None:
    proxy, other_key = _stubborn(own_host, 47472), "SHA256:" + "A" * 43
    said = refused(build, own_host.settings(proxy_command=proxy, host_key=other_key))
    assert "its host key has changed" in said
    until(lambda: not _runs(47472), "it goes on", 10)


def test_proxy_command_that_ignores_its_end_is_ended_after_a_kill(
    build: Build, own_host: Rack
) -> None:
    on = own_host.settings(proxy_command=_stubborn(own_host, 47473))
    with live(build, on) as lab:
        own_host.run("mv /etc/ssh/rack_sshd_config /etc/ssh/away")  # nobody comes instead
        os.kill(deputy(own_host), signal.SIGKILL)
        own_host.run("mv /etc/ssh/away /etc/ssh/rack_sshd_config")
        until(lambda: answers(lab.db), "it has no successor")
    until(lambda: not _runs(47473), "it goes on", 10)


# no room there


def test_host_on_which_no_lease_has_room_is_told_and_has_nothing_of_it(
    build: Build, own_host: Rack
) -> None:
    own_host.run("head -c 2M /dev/zero > /run/full", check=False)
    said = refused(build, own_host.settings())
    assert "its lease cannot be laid down there: ln: failed to create symbolic link" in said
    assert "No space left on device; try: df /run/lock /tmp, on the host" in said
    assert own_host.run("ls -A /run/lock") == ""
    own_host.run("rm /run/full")
    with live(build, own_host.settings()) as lab:
        assert lab.db.run("true").ok


def test_lease_that_has_no_room_is_renewed_when_there_is_some(build: Build, own_host: Rack) -> None:
    with live(build, own_host.settings(lease_s=10)) as lab:
        record = own_host.run(f"readlink {LEASE}")
        own_host.run("head -c 2M /dev/zero > /run/full", check=False)
        time.sleep(5)  # in which it would be renewed
        assert own_host.run(f"readlink {LEASE}") == record
        assert lab.db.run("true").ok
        own_host.run("rm /run/full")
        until(lambda: own_host.run(f"readlink {LEASE}") != record, "it is not renewed")
    assert own_host.run("ls -A /run/lock") == ""


# two at once


def test_two_runs_that_want_one_host_at_once_have_it_one_after_the_other(
    build: Build, own_host: Rack
) -> None:
    outcomes: list[str] = []

    def use(wait_s: float) -> None:
        try:
            lab: Any = build(alone(own_host.settings(wait_s=wait_s)))
        except CreationError as error:
            outcomes.append(str(error))
            return
        lab.db.run("mkdir /tmp/mine && sleep 1 && rmdir /tmp/mine")
        end(lab)
        outcomes.append("used")

    threads = [threading.Thread(target=use, args=(90,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["used", "used"]


# giving it back


SUITE = """\
import time
from pytest_carthage import Here, Layout, Machine, Ssh

class Lab(Layout):
    db = Machine(on=Ssh("db1.lab", user="ci", config="/dev/null", password_env="RACK_CI",
        proxy_command={proxy!r}, host_key={key!r}, become="root", become_password_env="RACK_CI",
        on_return=["echo there >> /tmp/returned", Here("echo $CARTHAGE_HOST > {here}")]))

lab = Lab.fixture()

def test_fails(lab):
    lab.db.run("echo begun >> /tmp/begun")
    assert 0

def test_hangs(lab):
    lab.db.run("setsid sleep 3331 & sleep 3332", timeout_s=300)
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["failure", "interrupt", "kill"])
def test_host_is_given_back_however_tests_end_and_no_password_is_kept(
    own_host: Rack, tmp_path: Path, how: str
) -> None:
    if why := own_host.install_sudo():
        pytest.skip(why)
    own_host.run("printf 'PasswordAuthentication yes\\nUsePAM yes\\n' > /tmp/more")
    own_host.run(
        "cat /etc/ssh/rack_sshd_config >> /tmp/more; mv /tmp/more /etc/ssh/rack_sshd_config"
    )
    own_host.add_user("ci", PASSWORD, may="ALL=(ALL) ALL", has_key=False)
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_lab.py").write_text(
        SUITE.format(proxy=own_host.proxy_command, key=own_host.host_key, here=tmp_path / "here")
    )
    words = ["-k", "fails"] if how == "failure" else ["-k", "hangs"]
    junit = f"--junitxml={suite}/junit.xml"
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", junit, *words]
    with (suite / "out").open("wb") as out:
        begun = subprocess.Popen(
            [*command, str(suite)],
            env={**os.environ, "CARTHAGE_STATE": str(suite / "state"), "RACK_CI": PASSWORD},
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=suite,
        )
    try:
        if how != "failure":
            until(lambda: "sleep 3332" in str(own_host.processes()), "it never began", 90)
            begun.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
        begun.wait(120)
    finally:
        begun.kill()
        begun.wait()
    said = (suite / "out").read_text()
    until(lambda: (tmp_path / "here").exists(), said, 60)
    until(lambda: own_host.run("ls /run/lock") == "", said, 30)
    until(lambda: "sleep 333" not in str(own_host.processes()), str(own_host.processes()), 30)
    assert own_host.run("cat /tmp/returned") == "there\n"  # once
    if how == "failure":
        assert re.search(r"1 failed", said), said
        assert (next(suite.glob("state/artifacts/*/test_lab.py.test_fails"))).is_dir(), said
    kept = subprocess.run(["grep", "-rlI", "s3cr3t", str(suite)], capture_output=True, text=True)
    assert kept.stdout == ""
