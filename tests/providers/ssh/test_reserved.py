"""Hosts that exist: reserved, used and given back, with nothing left on them."""

from __future__ import annotations

import contextlib
import getpass
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

from pytest_carthage import Layout, Machine, Network, Ssh
from pytest_carthage.errors import FabricError, UnsupportedError
from pytest_carthage.events import Recorder
from pytest_carthage.providers.ssh import SshProvider
from tests.support.layouts import Build, end
from tests.support.rack import LEASE, Rack
from tests.support.reserving import NEEDS_RACK, alone, deputy, live, refused, until

pytestmark = NEEDS_RACK

HELLO = """\
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        near, _ = listener.accept()
        with near:
            near.sendall(sys.argv[2].encode())
"""


def lay(host: Rack, **values: Any) -> str:
    """Lay down a lease of somebody else's; returns what lies there."""
    until_s = values.pop("until", int(time.time()) + 600)
    text = f"{until_s} {json.dumps({'id': 'x', 'owner': 'eve on far', **values})}"
    host.run(f"rm -f {LEASE}; ln -sn '{text}' {LEASE}")
    return text


# what is left


def test_host_is_as_it_was_after_everything_that_can_be_done(
    build: Build, host: Rack, tmp_path: Path
) -> None:
    before = host.listing()
    room = Network("10.1.0.0/24", external="rack 4")
    lan = Network("10.0.0.0/24")
    db = Machine(on=host.settings(), links={"eth0": room.at(".10")})
    layout = Layout.of("Lab", {"room": room, "lan": lan, "db": db})
    with live(build, layout) as lab:
        between = set(host.listing()) - set(before)
        assert [line.split()[0] for line in between if "/run/lock " not in line] == [
            f"/root{LEASE}"
        ]
        lab.db.run("id", user="nobody")
        lab.db.write_text("/tmp/asked", "for")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").write_text("x")
        lab.db.put(tmp_path / "folder", "/tmp/folder")
        assert lab.db.host.file("/tmp/asked").content_string == "for"
        assert lab.db.host.user("nobody").uid == 65534
        lab.db.run("rm -r /tmp/asked /tmp/folder")
        lab.add(Machine(links={"eth0": lan.at(".2")}), name="more")  # the others learn of it
        assert host.run("hostname; cat /etc/hosts") == ("db1\n127.0.0.1 localhost\n127.0.1.1 db1\n")
    assert host.listing() == before
    until(lambda: host.processes() == [], f"left: {host.processes()}")


def test_command_that_nobody_waits_for_ends_there_with_what_it_has_started(
    build: Build, host: Rack
) -> None:
    with live(build, host.settings()) as lab:
        with pytest.raises(Exception, match="did not end"):
            lab.db.run("sh -c 'sleep 1111 & sleep 1112'; true", timeout_s=0.5)
        until(lambda: "sleep 111" not in str(host.processes()), "it goes on")


# gates


def test_gates_each_way_join_a_host_with_machines(build: Build, host: Rack) -> None:
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".2")})
    layout = Layout.of("Shop", {"lan": lan, "web": web, "db": Machine(on=host.settings())})
    with live(build, layout) as shop:
        shop.db.write_text("/tmp/hello.py", HELLO)
        shop.web.write_text("/tmp/hello.py", HELLO)
        shop.db.run(
            "setsid python3 /tmp/hello.py 5432 db >/dev/null 2>&1 </dev/null & echo $! >/tmp/pid"
        )
        shop.web.run("setsid python3 /tmp/hello.py 8080 web >/dev/null 2>&1 </dev/null &")
        until(lambda: _port_answers(shop.db, 5432), "db")
        until(lambda: _port_answers(shop.web, 8080), "web")
        with shop.gate(shop.web, to="db:5432") as gate:
            with shop.web.connect(5432, "db") as near:  # by its name, as in production
                near.settimeout(10)
                assert near.recv(9) == b"db"
            assert gate.record.received_bytes == 2
        with shop.gate(shop.db, to="web:8080") as gate:
            assert gate.address == "127.0.0.1"
            with shop.db.connect(8080) as near:
                near.settimeout(10)
                assert near.recv(9) == b"web"
            assert (gate.record.count, gate.record.failed) == (1, 0)
        with pytest.raises(ConnectionRefusedError):
            shop.db.connect(8080)
        with shop.db.forward(5432) as port:
            said = subprocess.run(
                ["python3", "-c", f"import socket; print(socket.create_connection(('127.0.0.1', "
                 f"{port})).recv(9).decode())"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert said.stdout == "db\n"
        shop.db.run("kill $(cat /tmp/pid); rm /tmp/pid /tmp/hello.py")


def _port_answers(machine: Any, port: int) -> bool:
    with contextlib.suppress(OSError), machine.connect(port):
        return True
    return False


# who may come in


def test_unknown_host_key_is_refused_with_what_to_pin(build: Build, host: Rack) -> None:
    text = refused(build, host.settings(host_key="/dev/null"))
    assert "there is no such file" in text
    empty = host.folder / "known_hosts"
    empty.write_text("")
    text = refused(build, host.settings(host_key=empty))
    assert "machine 'db' of layout 'Lab': ssh root@db1.lab: its host key is unknown" in text
    assert f'host_key="{host.fingerprint}"' in text
    with live(build, host.settings(host_key=host.fingerprint)) as lab:
        assert lab.db.run("true").ok
    assert empty.read_text() == ""


def test_changed_host_key_is_refused_before_anything_is_sent(build: Build, host: Rack) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1wVLz0cNfrBbXyWW7LBFjHKXNvS4m0kYLXxIVOXmxT"
    text = refused(build, host.settings(host_key=other))
    assert "its host key has changed: SHA256:" in text
    assert host.fingerprint in text
    known = host.folder / "known_other"
    known.write_text(f"db1.lab {other}\n")
    text = refused(build, host.settings(host_key=known))
    assert f"its host key has changed: {known} has another one" in text
    text = refused(build, host.settings(host_key="SHA256:" + "A" * 43))
    assert "is pinned, and it shows ssh-ed25519" in text


def test_wrong_user_is_told_with_what_was_tried(build: Build, host: Rack) -> None:
    text = refused(build, host.settings(user="nobody"))
    assert f"it lets nobody not in by key {host.identity}: Permission denied" in text


def test_host_that_is_not_there_is_told_with_its_address(build: Build, host: Rack) -> None:
    on = Ssh("127.0.0.1", port=1, host_key=host.host_key, config=os.devnull, user="root")
    assert "ssh root@127.0.0.1:1: it cannot be reached: Connection refused" in refused(build, on)
    on = host.settings(proxy_command="echo no such rack >&2; exit 3")
    assert "its proxy_command says: no such rack" in refused(build, on)


def test_users_configuration_leads_to_a_host(build: Build, host: Rack, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(f"rack-db {host.host_key}\n")
    (tmp_path / "config").write_text(
        f"Host db1.lab\n  ProxyCommand {host.proxy_command}\n  IdentityFile {host.identity}\n"
        f"  User root\n  HostKeyAlias rack-db\n  UserKnownHostsFile {tmp_path}/known_hosts\n"
    )
    on = Ssh("db1.lab", config=tmp_path / "config")
    with live(build, on) as lab:
        assert lab.db.run("hostname").stdout == "db1\n"


def test_jump_host_leads_to_a_host(build: Build, own_host: Rack, tmp_path: Path) -> None:
    own_host.run(
        "/usr/sbin/sshd -f /etc/ssh/rack_sshd_config -o ListenAddress=127.0.0.1:2222 "
        "-o PidFile=none"
    )
    known = tmp_path / "known_hosts"
    known.write_text(f"bastion {own_host.host_key}\n[127.0.0.1]:2222 {own_host.host_key}\n")
    (tmp_path / "config").write_text(
        f"Host bastion\n  ProxyCommand {own_host.proxy_command}\n"
        "Host inner\n  HostName 127.0.0.1\n  Port 2222\n"
        f"Host *\n  User root\n  IdentityFile {own_host.identity}\n"
        f"  UserKnownHostsFile {known}\n"
    )
    on = Ssh("inner", jump="bastion", config=tmp_path / "config")
    with live(build, on) as lab:
        assert lab.db.run("hostname").stdout == "db1\n"
        assert "2222" in own_host.run("ss -Htn state established", check=False)


# the lease


def test_host_of_somebody_else_is_not_touched(build: Build, host: Rack) -> None:
    with live(build, host.settings()):
        text = refused(build, host.settings())
        assert f"it is in use by {getpass.getuser()} for" in text
        assert re.search(r"its lease ends in (300|29\d) s unless it is renewed", text)
    with live(build, host.settings()) as lab:
        assert lab.db.run("true").ok


def test_host_of_somebody_else_is_waited_for(build: Build, host: Rack) -> None:
    lay(host)
    threading.Timer(2.0, lambda: host.run(f"rm {LEASE}")).start()
    with live(build, host.settings(wait_s=30)) as lab:
        assert lab.db.run("true").ok


def test_lease_of_a_dead_run_is_taken_over_and_told(
    build: Build, host: Rack, recorder: Recorder
) -> None:
    lay(host, until=int(time.time()) - 5)
    with live(build, host.settings(on_return="touch /tmp/restored")):
        assert host.run("ls /tmp") == "restored\n"
        notes = [event.text for event in recorder.events if event.subject == "db"]
        assert any("was not given back by eve on far, whose run is dead" in one for one in notes)
        host.run("rm /tmp/restored")
    host.run("rm /tmp/restored")


def test_lease_of_a_process_of_this_host_that_is_gone_is_dead(build: Build, host: Rack) -> None:
    from pytest_carthage.channels.ssh.lease import here

    ended = subprocess.Popen(["true"])
    ended.wait()
    lay(host, holder={**here(os.getpid()), "pid": ended.pid})
    with live(build, host.settings()) as lab:
        assert lab.db.run("true").ok
    lay(host, holder=here(os.getpid()))
    assert "it is in use by eve on far" in refused(build, host.settings())
    host.run(f"rm {LEASE}")


def test_lease_that_is_broken_ends_the_use_of_the_host(build: Build, own_host: Rack) -> None:
    with live(build, own_host.settings(lease_s=10)) as lab:
        lay(own_host)

        def is_refused() -> bool:
            with contextlib.suppress(FabricError):
                lab.db.run("true")
                return False
            return True

        until(is_refused, "it is used on")
        with pytest.raises(FabricError, match=r"its lease was broken .* it is eve on far's now"):
            lab.db.run("true")
    assert "eve on far" in own_host.run(f"readlink {LEASE}")  # which is not ours to take away


# faults


def test_host_that_vanishes_in_mid_command_is_told(build: Build, own_host: Rack) -> None:
    lab: Any = build(alone(own_host.settings()))
    threading.Timer(1.0, own_host.vanish).start()
    begin = time.monotonic()
    with pytest.raises(FabricError, match=r"ssh root@db1\.lab: the connection was lost"):
        lab.db.run("sleep 60")
    assert time.monotonic() - begin < 10
    with pytest.raises(BaseException):  # noqa: B017  it cannot be given back
        end(lab)


@pytest.mark.parametrize("python", [True, False], ids=["agent", "commands"])
def test_full_disk_there_is_told_by_name(
    build: Build, own_host: Rack, tmp_path: Path, python: bool
) -> None:
    if not python:
        own_host.hide("python3")
    (tmp_path / "large").write_bytes(os.urandom(6 << 20))  # /tmp there has 4 MiB
    with live(build, own_host.settings()) as lab:
        with pytest.raises(OSError, match="No space left on device"):
            lab.db.put(tmp_path / "large", "/tmp/large")
        lab.db.run("rm -f /tmp/large")  # as far as it came, as with cp(1)
        assert lab.db.run("true").ok


def test_host_without_python_is_reached_by_commands(build: Build, own_host: Rack) -> None:
    own_host.hide("python3")
    with live(build, own_host.settings()) as lab:
        assert lab.db.run("echo hi").stdout == "hi\n"
        lab.db.write_text("/tmp/x", "y")
        assert lab.db.read_text("/tmp/x") == "y"
        assert lab.db.host.file("/tmp/x").is_file
        lab.db.run("rm /tmp/x")


def test_host_with_a_minimal_python_is_reached_by_commands(build: Build, own_host: Rack) -> None:
    own_host.run("rm $(python3 -c 'import resource; print(resource.__file__)')")
    with live(build, own_host.settings()) as lab:
        assert lab.db.way == "ssh"
        assert lab.db.run("echo hi").stdout == "hi\n"
        assert "python3" not in str(own_host.processes())


def test_commands_end_there_with_their_deputy_where_no_agent_ends_them(
    build: Build, own_host: Rack
) -> None:
    own_host.hide("python3")
    with live(build, own_host.settings()) as lab:

        def hang() -> None:
            with contextlib.suppress(FabricError):
                lab.db.run("setsid sleep 1114 & sleep 1115")

        thread = threading.Thread(target=hang)
        thread.start()
        until(lambda: "sleep 1115" in str(own_host.processes()), "it never began")
        os.kill(deputy(own_host), signal.SIGKILL)
        thread.join(30)
        until(lambda: "sleep 111" not in str(own_host.processes()), "they go on")
    until(lambda: own_host.processes() == [], f"left: {own_host.processes()}")


def test_what_a_host_cannot_be_asked_for_is_refused_by_name(build: Build, host: Rack) -> None:
    with live(build, host.settings()) as lab:
        for refused_one in (lab.db.freeze, lab.db.stop):
            with pytest.raises(UnsupportedError, match="target 'ssh' cannot"):
                refused_one()
        assert not lab.db.can("links")


# passwords


def test_missing_password_is_told_before_anything_is_built() -> None:
    on = Ssh("db1.lab", password_env="NO_SUCH_VARIABLE_HERE")
    from pytest_carthage.planning import make_plan

    (problem,) = SshProvider().check(make_plan(alone(on)))
    assert "machine 'db' takes a password from the variable NO_SUCH_VARIABLE_HERE" in str(problem)


# from the command line


SUITE = """\
from pytest_carthage import Layout, Machine, Ssh

class Lab(Layout):
    db = Machine(on=Ssh("db1.lab", user="root", config="/dev/null",
        proxy_command={proxy!r}, identity={identity!r}, host_key={key!r}, on_return="true"))

lab = Lab.fixture()
"""


def test_leases_are_told_and_broken(
    host: Rack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_carthage.cli import main

    suite = tmp_path / "lab.py"
    suite.write_text(
        SUITE.format(proxy=host.proxy_command, identity=host.identity, key=host.host_key)
    )
    layout = f"{suite}:Lab"
    assert main(["leases", layout]) == 0
    lay(host)
    assert main(["leases", layout]) == 0
    assert main(["leases", layout, "--break", "web"]) == 2
    assert main(["leases", layout, "--break", "db"]) == 0
    assert main(["leases", layout, "--break", "db"]) == 0
    said, wrong = capsys.readouterr()
    assert re.sub("5[0-9]+ s|600 s", "600 s", said).splitlines() == [
        "db: free",
        "db: in use by eve on far, for 600 s unless it is renewed",
        "db: broken: in use by eve on far, for 600 s unless it is renewed",
        "db: it was free",
    ]
    assert "layout 'Lab' has no host 'web' that exists; there are: db" in wrong
    assert LEASE not in host.run("ls -d /run/lock/*", check=False)


# kill -9


def test_killed_pytest_leaves_neither_lease_nor_process(host: Rack, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        SUITE.format(proxy=host.proxy_command, identity=host.identity, key=host.host_key).replace(
            '"true"', '"touch /tmp/returned"'
        )
    )
    (tmp_path / "test_lab.py").write_text(
        "def test_hangs(lab):\n    lab.db.run('setsid sleep 2222 & sleep 2223')\n"
    )
    pytest_ = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "CARTHAGE_STATE": str(tmp_path / "state")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        until(lambda: "sleep 2223" in str(host.processes()), "it never began", 60)
    finally:
        pytest_.kill()
        pytest_.wait()
    until(lambda: "returned" in host.run("ls /tmp"), "it was not restored", 60)
    until(lambda: host.run("ls /run/lock") == "", "its lease is left", 20)
    until(lambda: host.processes() == [], f"left: {host.processes()}", 20)
    host.run("rm /tmp/returned")
