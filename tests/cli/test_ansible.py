"""``ansible`` and ``inventory``, with the real Ansible, in a layout whose builder is gone."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_carthage.cli import ansible
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import StateError
from pytest_carthage.fabric.wire import client, frames
from pytest_carthage.live.openings.handover import take_up
from tests.ssh.conftest import Hosts, hosts

__all__ = ["hosts"]

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

PLAY = """
- hosts: shops
  gather_facts: false
  tasks:
    - copy: {content: "{{ colour }}", dest: /tmp/colour}
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - uri: {url: "http://web/"}
"""


@pytest.fixture(autouse=True)
def needs_ansible() -> None:
    if not (Path(sys.executable).parent / "ansible").exists():
        pytest.skip("no ansible in this Python's environment; try: pip install ansible-core")


def run(hosts: Hosts, *words: str) -> subprocess.CompletedProcess[str]:
    return hosts.ours("ansible", *words, timeout_s=200)


def test_program_is_ansible_where_none_is_named(hosts: Hosts) -> None:
    done = run(hosts, "--", "all", "-m", "command", "-a", "hostname", "-o")
    assert done.returncode == 0, done.stderr
    for name in ("web", "desk"):
        assert f"{name} | CHANGED | rc=0 | (stdout) {name}" in done.stdout


def test_status_is_that_of_the_program(hosts: Hosts) -> None:
    done = run(hosts, "told-pair", "--", "ansible", "web", "-m", "command", "-a", "false")
    assert done.returncode == 2, done.stderr
    assert "web | FAILED" in done.stdout


def test_play_is_in_the_layout_with_its_variables_and_names(hosts: Hosts) -> None:
    (hosts.folder / "site.yml").write_text(PLAY)
    done = run(hosts, "told", "--", "ansible-playbook", "site.yml")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert hosts.ours("exec", "web", "--", "cat", "/tmp/colour").stdout == "blue"
    assert not Path("/tmp/colour").exists()


def test_play_does_not_reach_this_computers_network(hosts: Hosts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reach = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        command = f'{sys.executable} -c "{reach}"'
        words = ("localhost", "-c", "local", "-m", "shell", "-a", command)
        assert hosts.run([sys.executable, "-c", reach]).returncode == 0
        done = run(hosts, "--", *words)
    assert done.returncode == 2
    assert "Connection refused" in done.stdout


def test_plays_are_on_no_network_while_the_builder_may_give_addresses_away(
    hosts: Hosts,
) -> None:
    with hosts.built("other") as name:
        folder = hosts.folder / f"state/runs/other/envs/{name}"
        handover = take_up(name, folder)
        station = handover.open_station(is_owned=True)
        assert (station.network, station.sockets) == (-1, (str(folder),))
        made = handover.open_station(is_owned=False)
        again = handover.open_station(is_owned=True)  # it is there now
        assert len(made.descriptors) == len(again.descriptors) == 2
        frames.close_all([*made.descriptors, *again.descriptors])


def test_inventory_of_ansible_is_that_of_the_layout(hosts: Hosts) -> None:
    done = run(hosts, "--", "ansible-inventory", "--graph")
    assert done.returncode == 0, done.stderr
    assert "@shops:\n  |  |--web" in done.stdout


# an Ansible of the user's own


def test_inventory_works_with_a_plain_ansible(hosts: Hosts) -> None:
    for form in ([], ["--list"]):
        done = hosts.ours("inventory", "told-pair", *form)
        assert done.returncode == 0, done.stderr
        record = json.loads(done.stdout)
        script = hosts.folder / "inventory.json"
        script.write_text(done.stdout)
        if form:
            assert record["_meta"]["hostvars"]["web"]["colour"] == "blue"
            script.write_text(f"#!/bin/sh\ncat <<'EOF'\n{done.stdout}EOF\n")
            script.chmod(0o755)
        argv = [str(Path(sys.executable).parent / "ansible"), "-i", str(script), "shops", "-o"]
        done = hosts.run([*argv, "-m", "command", "-a", "echo {{ colour }}"], timeout_s=200)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        assert "web | CHANGED | rc=0 | (stdout) blue" in done.stdout


def test_inventory_for_the_plugin_says_how_it_finds_machines(hosts: Hosts) -> None:
    done = hosts.ours("inventory", "--connection", "carthage")
    assert done.returncode == 0, done.stderr
    everyone = json.loads(done.stdout)["all"]
    assert everyone["vars"]["ansible_carthage_socket"] == str(hosts.environment / "fabric.sock")
    assert everyone["hosts"]["web"]["ansible_connection"] == "carthage"
    assert everyone["children"] == {"shops": {"hosts": {"web": {}}}}


# mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"what is to be run\? try: pytest-carthage ansible \[NAME\] -- all -m ping"),
        (["one", "two", "--", "all"], r"what is to be run\?"),
        (["one", "all"], r"what is to be run\?"),
        (["--", "ansible-galaxy", "list"], "'ansible-galaxy' is none of ansible, "),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(Usage, match=message):
        ansible._split(words)


def test_environment_that_is_not_there_is_refused(hosts: Hosts) -> None:
    for command in (["ansible", "told-pare", "--", "all"], ["inventory", "told-pare"]):
        done = hosts.ours(*command)
        assert done.returncode == 2
        assert "no environment 'told-pare' is alive; there are: told-pair" in done.stderr
        assert "did you mean 'told-pair'?" in done.stderr


def test_environment_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="environment 'old': what Ansible is told of it is not in"):
        take_up("old", tmp_path)


def test_machine_that_is_off_is_unreachable(hosts: Hosts) -> None:
    with client.connect(str(hosts.environment / "fabric.sock")) as fabric:
        fabric.request("stop", machine="desk")
        done = run(hosts, "--", "desk", "-m", "ping")
        fabric.request("start", machine="desk")
    assert done.returncode == 4
    assert "machine 'desk': no connection to its agent" in done.stdout.replace("\\n", " ")
