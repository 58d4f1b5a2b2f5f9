"""testinfra and Ansible on a machine of the ``podman`` target, with systemd as its init."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, unit
from pytest_carthage_fixtures.shop import Shop

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


class Hall(Layout):
    """One container that looks like a server."""

    lan = Network("10.0.0.0/24")
    # one image serves this and the example suite
    debian = Shop.debian
    server = Machine(
        debian,
        links={"eth0": lan.at(".1")},
        init="systemd",
        on="podman",
        groups=["servers"],
        wait_for=[unit("dbus")],
    )


hall = Hall.fixture()

with_ansible = pytest.mark.skipif(
    not (Path(sys.executable).parent / "ansible-playbook").exists()
    and shutil.which("ansible-playbook") is None,
    reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
)


def test_services_and_units(hall: Hall) -> None:
    host = hall.server.host
    assert host.service("dbus").is_running
    assert host.service("systemd-journald.service").exists
    assert not host.service("no-such-unit").is_running
    assert host.service("dbus").systemd_properties["ActiveState"] == "active"


def test_packages(hall: Hall) -> None:
    host = hall.server.host
    assert host.package("nginx").is_installed
    assert host.package("nginx").version
    assert not host.package("apache2").is_installed


def test_system_sockets_and_addresses(hall: Hall) -> None:
    host = hall.server.host
    assert (host.system_info.distribution, host.system_info.codename) == ("debian", "bookworm")
    assert host.file("/proc/1/comm").content_string == "systemd\n"
    assert host.interface("eth0").addresses[0] == "10.0.0.1"
    assert host.socket("unix:///run/dbus/system_bus_socket").is_listening
    assert host.file("/proc/sys/net/ipv4/ip_forward").content_string == "0\n"
    assert host.file("/etc/os-release").linked_to == "/usr/lib/os-release"
    assert host.user("nobody").shell == "/usr/sbin/nologin"


def test_sudo_needs_no_sudo_in_the_machine(hall: Hall) -> None:
    host = hall.server.host
    assert not host.exists("sudo")
    with host.sudo("nobody"):
        assert host.check_output("id -un") == "nobody"


@with_ansible
def test_playbook_provisions_a_service_without_sudo_and_ssh(hall: Hall, tmp_path: Path) -> None:
    playbook = tmp_path / "site.yml"
    playbook.write_text(
        textwrap.dedent(
            """
            - hosts: servers
              become: true
              tasks:
                - name: Unit
                  copy:
                    dest: /etc/systemd/system/till.service
                    content: |
                      [Service]
                      ExecStart=/bin/sleep infinity
                      User=nobody
                      [Install]
                      WantedBy=multi-user.target
                  notify: Restart
                - name: Account
                  user: {name: clerk, shell: /bin/sh}
                - name: Note
                  copy: {dest: /home/clerk/note, content: "{{ ansible_facts.distribution }}"}
                  become_user: clerk
                - name: Enabled
                  systemd: {name: till, enabled: true, state: started, daemon_reload: true}
              handlers:
                - name: Restart
                  systemd: {name: till, state: restarted, daemon_reload: true}
            """
        )
    )
    first = hall.ansible(playbook)
    assert {task.name for task in first.tasks if task.status == "changed"} >= {"Unit", "Restart"}
    host = hall.server.host
    assert host.service("till").is_running
    assert host.service("till").is_enabled
    assert host.service("till").systemd_properties["User"] == "nobody"
    note = host.file("/home/clerk/note")
    assert (note.user, note.content_string) == ("clerk", "Debian")
    assert not hall.ansible(playbook).changed
