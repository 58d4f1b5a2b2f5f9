"""What a host that exists can be asked for: it works, or is refused by name; nothing is left."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, Ssh
from pytest_carthage.errors import UnsupportedError
from tests.support.layouts import Build
from tests.support.rack import Rack, rack
from tests.support.reserving import NEEDS_RACK, live, refused

pytestmark = NEEDS_RACK


def joined(on: Ssh) -> type[Layout]:
    """A layout of a host and a machine on a network that has the same addresses."""
    room = Network("10.0.0.0/24", external="the server room")
    lan = Network("10.0.0.0/24")
    members = {
        "room": room,
        "lan": lan,
        "db": Machine(on=on, links={"eth0": room.at(".10")}),
        "web": Machine(links={"eth0": lan.at(".10")}),
    }
    return Layout.of("Lab", members)


#: what a host that exists cannot be asked for, as it is typed, and what is said of it
REFUSED = {
    "db.stop()": "switch machines off and on",
    "db.restart()": "switch machines off and on",
    "db.reboot()": "switch machines off and on",
    "db.freeze()": "freeze machines",
    "db.reset()": "press reset buttons",
    "db.plug_disk('data', size_mib=1)": "plug disks and cards",
    "db.snapshot('clean')": "take snapshots of machines",
    "db.revert('clean')": "take snapshots of machines",
    "db.snapshots()": "take snapshots of machines",
    "db.screenshot()": "show screens of machines",
    "db.send_keys('x')": "show screens of machines",
    "db.console()": "attach to consoles of machines",
    "db.socket()": "give sockets of a machine's network",
    "db.link('eth0').unplug()": "plug disks and cards",
}
#: and what its links cannot be, which are of no network here
_NAMES = ("down", "impair", "capture")
OF_LINKS = ("down()", "impair(loss_pct=1)", "capture()")


def test_what_a_host_cannot_be_asked_for_is_refused_by_name(build: Build, host: Rack) -> None:
    wrong = {}
    with live(build, joined(host.settings())) as lab:
        for use, words in REFUSED.items():
            try:
                eval(use, {"lab": lab, "db": lab.db})
                wrong[use] = "it works"
            except UnsupportedError as error:
                text = str(error)
                if f"target 'ssh' cannot {words}" not in text or 'on="ssh"' in text:
                    wrong[use] = str(error)
            except Exception as error:
                wrong[use] = f"{type(error).__name__}: {error}"
        for use in OF_LINKS:
            with (
                pytest.raises((ValueError, LookupError), match=r"db.*external"),
                eval(use, {name: getattr(lab.db.link("eth0"), name) for name in _NAMES}),
            ):
                pass
        assert lab.db.run("true").ok
    assert wrong == {}


def test_log_of_a_host_is_its_journal_or_it_says_that_there_is_none(
    build: Build, host: Rack
) -> None:
    host.write("/usr/local/bin/journalctl", '#!/bin/sh\necho "journal: $*"\necho "of $(id -un)"\n')
    with live(build, joined(host.settings())) as lab:
        assert "journal: --quiet --no-pager --lines=20000 --since=@" in lab.db.logs()
        host.run("rm /usr/local/bin/journalctl")
    with rack_without_journal(host) as bare, live(build, bare) as lab:
        assert lab.db.logs() == (
            "(its journal cannot be read: this host keeps no journal: there is no journalctl)\n"
        )


@contextlib.contextmanager
def rack_without_journal(host: Rack) -> Iterator[Ssh]:
    host.write("/usr/local/bin/python3", "#!/bin/sh\nexit 1\n")
    host.run("mkdir /usr/bin.away && mv /usr/bin/journalctl /usr/bin.away/ 2> /dev/null || true")
    try:
        yield host.settings()
    finally:
        host.run("mv /usr/bin.away/* /usr/bin/; rmdir /usr/bin.away", check=False)
        host.run("rm /usr/local/bin/python3")


PLAY = """\
- hosts: db
  gather_facts: true
  tasks:
    - copy: {content: asked, dest: /tmp/asked}
    - command: cat /tmp/asked
    - file: {path: /tmp/asked, state: absent}
"""


def test_host_without_python_is_as_it_was_after_commands_files_and_gates(
    build: Build, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    with rack(tmp_path / "bare") as host:
        host.hide("python3")
        before = host.listing()
        with live(build, joined(host.settings())) as lab:
            db = lab.db
            db.run("id", user="nobody")
            db.write_text("/tmp/asked", "for")
            db.put(tmp_path / "folder", "/tmp/folder")
            assert db.host.file("/tmp/asked").content_string == "for"
            db.run("rm -r /tmp/asked /tmp/folder")
            with lab.gate("db", to="web:8080"), lab.gate("web", to="db:22"), db.forward(22):
                pass
        assert [line for line in host.listing() if line not in before] == []


@pytest.mark.skipif(shutil.which("ansible-playbook") is None, reason="no Ansible")
@pytest.mark.timeout(300)
def test_play_leaves_nothing_behind_that_it_did_not_ask_for(
    build: Build, host: Rack, tmp_path: Path
) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    host.hide("vgs")  # which Ansible's own facts ask, and which makes a folder
    before = host.listing()
    with (
        live(build, joined(host.settings())) as lab,
        lab.gate("db", to="web:8080"),
        lab.gate("web", to="db:22"),
        lab.db.forward(22),
    ):
        assert lab.ansible(tmp_path / "play.yml").ok
    assert [line for line in host.listing() if line not in before] == []


# hosts on the way


def test_host_on_the_way_that_is_not_known_is_told_by_its_own_name(
    build: Build, host: Rack, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("")
    (tmp_path / "config").write_text(
        f"Host bastion\n  ProxyCommand {host.proxy_command}\n"
        f"Host *\n  User root\n  IdentityFile {host.identity}\n  UserKnownHostsFile {known}\n"
    )
    on = Ssh("inner", jump="ci@bastion:2200", config=tmp_path / "config")
    said = refused(build, on)
    assert "ssh inner: on the way there: ssh ci@bastion:2200: its host key is unknown" in said
    assert known.read_text() == ""
