"""Modules of production's plays on system containers, each as a server would have it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import AnsibleError
from pytest_carthage.handles.ansible_options import PlaybookOptions
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.store.built import Built
from tests.providers.conftest import DEBIAN, built
from tests.support.layouts import building
from tests.work.ansible.test_ansible import write

__all__ = ["built"]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "ansible-playbook").exists()
        and shutil.which("ansible-playbook") is None,
        reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
    ),
]

#: :data:`DEBIAN` has all of it by now
HAS_ALL = "CARTHAGE_TEST_SERVERS"

IMAGE = DEBIAN
if HAS_ALL not in os.environ:
    IMAGE = DEBIAN.with_packages("dbus-user-session", "libpam-systemd", "python3", "rsync")


class Servers(Layout):
    """One with systemd, one without, and one without Python."""

    lan = Network("10.0.0.0/24")
    app = Machine(IMAGE, links={"eth0": lan.at(".1")}, init="systemd", groups=["servers"])
    store = Machine(IMAGE, links={"eth0": lan.at(".2")}, groups=["servers"])
    bare = Machine(DEBIAN, links={"eth0": lan.at(".3")})


@pytest.fixture(scope="module")
def servers(built: Built) -> Iterator[Servers]:
    if problems := NetnsProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}) as build,
    ):
        yield build(Servers)


@pytest.fixture(scope="module")
def posix(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with ``ansible.posix``, which is taken out of Debian's package of Ansible."""
    if shutil.which("rsync") is None:
        pytest.skip("no rsync on this computer; try: apt install rsync")
    folder = tmp_path_factory.mktemp("posix")
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("no apt-get to get ansible.posix with")
    done = subprocess.run(
        ["apt-get", "download", "-q", "ansible"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        pytest.skip(f"no ansible.posix: {done.stderr.strip()}")
    (package,) = folder.glob("*.deb")
    collection = "./usr/lib/python3/dist-packages/ansible_collections/ansible/posix"
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
    ) as reading:
        subprocess.run(["tar", "x", collection], stdin=reading.stdout, cwd=folder, check=True)
    package.unlink()
    folder = folder / "usr/lib/python3/dist-packages"
    # Debian's is older than this Ansible may be: as newer ones of the collection have it
    action = folder / "ansible_collections/ansible/posix/plugins/action/synchronize.py"
    text = action.read_text()
    action.write_text(text.replace("self._connection._new_stdin", "None"))
    # whoever runs this may have no home to which this computer's own tasks go
    return {"ANSIBLE_COLLECTIONS_PATH": str(folder), "ANSIBLE_REMOTE_TMP": "/tmp"}


SERVER = """
- hosts: app
  gather_facts: false
  tasks:
    - fetch: {src: /etc/hostname, dest: "{{ playbook_dir }}/fetched"}
    - {name: script, script: say.sh one, register: script_}
    - {name: said, debug: {msg: "{{ script_.stdout | trim }}"}}
    - {slurp: {src: /etc/hostname}, register: slurp_}
    - {name: slurped, debug: {msg: "{{ slurp_.content }}"}}
    - {unarchive: {src: site.tgz, dest: /srv}}
    - {copy: {src: site.tgz, dest: /root/site.tgz, mode: "0640"}}
    - {unarchive: {src: /root/site.tgz, dest: /mnt, remote_src: true, owner: nobody}}
    - pause: {seconds: 1}
    - wait_for_connection: {timeout: 20}
    - {name: Name, hostname: {name: renamed}}
    - {user: {name: shop}}
    - {command: loginctl enable-linger shop}
    - file: {path: "~shop/.config/systemd/user", state: directory, owner: shop}
      become: true
      become_user: shop
    - copy:
        dest: "~/.config/systemd/user/beat.service"
        content: |
          [Service]
          ExecStart=sleep infinity
          [Install]
          WantedBy=default.target
      become: true
      become_user: shop
    - name: Unit of a user
      systemd_service: {name: beat, scope: user, state: started, enabled: true, daemon_reload: true}
      become: true
      become_user: shop
      environment: {XDG_RUNTIME_DIR: "/run/user/{{ uid.stdout }}"}
      register: unit
      vars: {uid: {stdout: "1000"}}
    - meta: reset_connection
    - {name: after, command: id -un, register: id_}
    - {copy: {content: x, dest: /root/x}, vars: {ansible_pipelining: false}}
    - name: without pipelining as another
      command: id -un
      become: true
      become_user: shop
      vars: {ansible_pipelining: false}
      register: other
    - {name: whoever, debug: {msg: "{{ id_.stdout }} {{ other.stdout }}"}}
    - {name: Reboot, reboot: {reboot_timeout: 60, post_reboot_delay: 0}}
    - {name: up, command: "systemctl --user --machine=shop@ is-active beat", register: up}
    - {name: active, debug: {msg: "{{ up.stdout }}"}}
- hosts: bare
  gather_facts: false
  tasks:
    - {name: raw, raw: "uname -n; test ! -e /usr/bin/python3"}
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    write(tree / "say.sh", '#!/bin/sh\necho "$1 on $(uname -n)"\n')
    write(tree / "site/index.html", "hello\n")
    with tarfile.open(tree / "site.tgz", "w:gz") as archive:
        archive.add(tree / "site", "site")
    return tree


def test_modules_of_a_server_do_what_they_do_on_one(servers: Servers, tree: Path) -> None:
    servers.bare.run("rm -f /usr/bin/python3*")
    result = servers.ansible(write(tree / "server.yml", SERVER), timeout_s=240)
    said = {task.name: task.message for task in result.tasks}
    assert (tree / "fetched/app/etc/hostname").read_text() == "app\n"
    assert said["said"] == "one on app"
    assert b64decode(said["slurped"]) == b"app\n"
    app = servers.app
    assert app.read_text("/srv/site/index.html") == "hello\n"
    assert app.run("stat -c %U /mnt/site/index.html").stdout == "nobody\n"
    assert app.run("uname -n; cat /etc/hostname").lines == ["renamed", "renamed"]
    assert said["whoever"] == "root shop"
    assert said["active"] == "active"
    assert {task.status for task in result.tasks if task.name == "raw"} == {"changed"}


POSIX = """
- hosts: app
  gather_facts: false
  tasks:
    - name: mounted
      ansible.posix.mount: {path: /scratch, src: none, fstype: tmpfs, opts: size=1m, state: mounted}
    - name: set
      ansible.posix.sysctl: {name: net.ipv4.ip_forward, value: "1", sysctl_set: true}
    - name: pushed
      ansible.posix.synchronize: {src: site/, dest: /srv/pushed, delete: true}
    - name: pushed again
      ansible.posix.synchronize: {src: site/, dest: /srv/pushed, delete: true}
    - name: pulled
      ansible.posix.synchronize: {mode: pull, src: /etc/hostname, dest: "{{ playbook_dir }}/pulled"}
    - name: pushed by this computer
      ansible.posix.synchronize: {src: site/, dest: /srv/local}
      delegate_to: localhost
    - name: pushed as another
      ansible.posix.synchronize: {src: site/, dest: /home/shop/site, owner: false, group: false}
      become: true
      become_user: shop
    - name: within the machine
      ansible.posix.synchronize: {src: /srv/pushed/, dest: /srv/within}
      delegate_to: "{{ inventory_hostname }}"
    - name: written there
      copy: {content: "of the store\\n", dest: /var/tmp/stored}
      delegate_to: store
    - name: pushed by another machine
      ansible.posix.synchronize: {src: /var/tmp/stored, dest: /srv/stored}
      delegate_to: store
    - name: pulled by another machine
      ansible.posix.synchronize: {mode: pull, src: /srv/pushed/, dest: /var/tmp/pulled}
      delegate_to: store
"""


def test_modules_of_posix_reach_machines_as_ssh_does(
    servers: Servers, tree: Path, posix: dict[str, str]
) -> None:
    app, store = servers.app, servers.store
    app.run("id shop || useradd -m shop; mkdir -p /srv/pushed; touch /srv/pushed/stale")
    options: PlaybookOptions = {"environment": posix}
    result = servers.ansible(write(tree / "posix.yml", POSIX), timeout_s=240, **options)
    statuses = {task.name: task.status for task in result.tasks}
    assert statuses.pop("pushed again") == "ok"
    assert set(statuses.values()) == {"changed"}
    assert "/scratch tmpfs rw" in app.run("cut -d' ' -f2-4 /proc/mounts").stdout
    assert app.read_text("/proc/sys/net/ipv4/ip_forward") == "1\n"
    assert app.run("ls /srv/pushed /srv/local /srv/within").stdout.split() == [
        *("/srv/local:", "index.html", "/srv/pushed:", "index.html", "/srv/within:", "index.html")
    ]
    assert app.run("stat -c %U /home/shop/site/index.html").stdout == "shop\n"
    assert (tree / "pulled").read_text() == app.read_text("/etc/hostname")
    assert app.read_text("/srv/stored") == "of the store\n"
    assert store.read_text("/var/tmp/pulled/index.html") == "hello\n"
    assert not store.run("ls -d /tmp/tmp.* || true").stdout


def test_rsync_does_not_leave_the_layout(
    servers: Servers, tree: Path, posix: dict[str, str]
) -> None:
    playbook = write(
        tree / "leaving.yml",
        """
        - hosts: store
          gather_facts: false
          tasks:
            - command: rsync --version
            - ansible.posix.synchronize: {src: "backup.prod.example:/etc/hostname", dest: /srv/x}
              delegate_to: localhost
        """,
    )
    options: PlaybookOptions = {"environment": posix}
    with pytest.raises(AnsibleError, match=r"'backup\.prod\.example' is no machine of the layout"):
        servers.ansible(playbook, timeout_s=60, **options)


def test_rsync_that_fails_in_the_other_machine_says_why(
    servers: Servers, tree: Path, posix: dict[str, str]
) -> None:
    servers.bare.run("rm -f /usr/bin/rsync")
    playbook = write(
        tree / "failing.yml",
        """
        - hosts: bare
          gather_facts: false
          tasks:
            - ansible.posix.synchronize: {src: /etc/hostname, dest: /srv/x}
              delegate_to: store
        """,
    )
    options: PlaybookOptions = {"environment": posix}
    with pytest.raises(AnsibleError, match=r"rsync: (not found|.*No such file)"):
        servers.ansible(playbook, timeout_s=60, **options)
