"""Ansible stages on live machines of the host's own file system."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import AnsibleError

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "ansible-playbook").exists()
        and shutil.which("ansible-playbook") is None,
        reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
    ),
]


class Site(Layout):
    """A front and a back, with addresses that mean nothing to the host."""

    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")}, groups=["front"], variables={"title": "Test"})
    db = Machine(links={"eth0": lan.at(".2")}, groups=["data"])


site = Site.fixture()

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "site.yml"
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    return write


def test_play_changes_the_machine_and_not_the_host(site: Site, write: Write) -> None:
    result = site.ansible(
        write(
            """
            - hosts: all
              tasks:
                - copy: {content: "{{ ansible_facts.hostname }}\\n", dest: /etc/carthage-test}
                - file: {path: /var/lib/carthage-test, state: directory, mode: "0700"}
            """
        )
    )
    assert result.changed
    assert site.web.read_text("/etc/carthage-test") == "web\n"
    assert site.db.host.file("/etc/carthage-test").content_string == "db\n"
    assert site.web.host.file("/var/lib/carthage-test").mode == 0o700
    assert not Path("/etc/carthage-test").exists()
    assert not Path("/var/lib/carthage-test").exists()


_WHENCE = """
import json, sys
from ansible.module_utils import basic
module = basic.AnsibleModule({})
module.exit_json(whence=basic.__file__.rpartition(".")[2])
"""


@pytest.mark.parametrize("become", [False, True])
def test_modules_come_compiled_unless_that_is_not_wanted(
    site: Site, write: Write, become: bool
) -> None:
    playbook = write(
        f"""
        - hosts: all
          gather_facts: false
          become: {str(become).lower()}
          tasks:
            - whence:
              register: seen
            - debug: {{msg: "{{{{ seen.whence }}}}"}}
        """
    )
    (playbook.parent / "library").mkdir()
    (playbook.parent / "library" / "whence.py").write_text(_WHENCE)
    assert {task.message for task in site.ansible(playbook).tasks[2:]} == {"pyc"}
    plain = site.ansible(playbook, extra_vars={"ansible_carthage_compiled": ""})
    assert {task.message for task in plain.tasks[2:]} == {"py"}


def test_machines_meet_by_address_and_by_name(site: Site, write: Write) -> None:
    result = site.ansible(
        write(
            """
            - hosts: data
              gather_facts: false
              tasks:
                - name: Serve
                  shell: "nohup python3 -m http.server 8000 --directory /etc >/dev/null 2>&1 &"
            - hosts: front
              gather_facts: false
              tasks:
                - name: Wait
                  wait_for: {host: "{{ hostvars['db'].ansible_host }}", port: 8000, timeout: 20}
                - name: Fetch
                  uri: {url: "http://db:8000/hostname", return_content: true}
                  register: page
                - debug: {msg: "{{ title }} {{ page.content | trim }}"}
            """
        )
    )
    assert result.tasks[-1].message == "Test db"


def test_machine_that_came_later_is_in_the_inventory(site: Site, write: Write) -> None:
    site.add(Machine(links={"eth0": site.lan.at("auto")}, groups=["tills"]), name="till-7")
    try:
        result = site.ansible(write("- {hosts: tills, tasks: [{debug: {msg: here}}]}\n"))
    finally:
        site.remove("till-7")
    assert list(result.hosts) == ["till-7"]


def test_stopped_machine_is_unreachable(site: Site, write: Write) -> None:
    site.db.stop()
    try:
        with pytest.raises(AnsibleError, match=r"found no connection on 'db'"):
            site.ansible(
                write("- {hosts: data, gather_facts: false, tasks: [{raw: 'true'}]}\n"),
                timeout_s=30,
            )
    finally:
        site.db.start()


def test_temporary_files_do_not_end_in_a_home(site: Site, write: Write) -> None:
    home = Path(site.web.run("echo $HOME").stdout.strip())
    before = set(home.iterdir()) if home.is_dir() else set()
    site.ansible(
        write(
            """
            - hosts: front
              gather_facts: false
              tasks:
                - template: {src: site.yml, dest: /tmp/out}
            """
        )
    )
    assert (set(home.iterdir()) if home.is_dir() else set()) == before
    assert not site.web.run("ls -d /tmp/ansible-tmp-* || true").stdout


@pytest.mark.parametrize(
    "task",
    [
        "{uri: {url: 'http://203.0.113.1/'}, delegate_to: localhost}",
        "{uri: {url: 'http://far.prod.example/'}}",
    ],
)
def test_task_that_nothing_leads_out_for_is_told_of_gates(
    site: Site, write: Write, task: str
) -> None:
    playbook = write(f"- {{hosts: front, gather_facts: false, tasks: [{task}]}}\n")
    expected = r'nothing leads out of a layout.*; try: outside=\["host:port"\] .* layout\.gate\(\)'
    with pytest.raises(AnsibleError, match=expected):
        site.ansible(playbook)
