"""Roles of production on a server each, where they have nothing left to do: one whole play.

Against: the same play over ssh, to an sshd in each of the same servers, with pipelining and kept
connections; and as Ansible comes, with neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import live
from pytest_carthage import Image, Layout, Machine, Network
from pytest_carthage.work.ansible.installation import find_program

TREE = Path(__file__).parents[1] / "example_suites" / "production_roles"
ROLES = ("nginx", "haproxy", "ntp")
SERVER = Image.debian("bookworm").with_packages(
    "curl",
    "dbus",
    "iproute2",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "python3-apt",
    "sudo",
    "systemd-sysv",
)
#: settings of ssh's connections, to be quick
KEPT = "-o ControlMaster=auto -o ControlPersist=60s"


def site() -> type[Layout]:
    """A server for each role, which may install what it likes."""
    lan = Network("10.0.0.0/24")
    servers = {
        role: Machine(SERVER, init="systemd", groups=["servers"], links={"eth0": lan.at("auto")})
        for role in ROLES
    }
    return Layout.of("Site", {"packages": "open", "lan": lan, **servers})


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="carthage-benchmark-"))
        layout = stack.enter_context(live(site()))
        layout.ansible(TREE / "site.yml", forks=len(ROLES))
        key = Path(name) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        hosts = {}
        for machine in layout:
            machine.run("install -d -m 700 /root/.ssh")
            machine.write_text("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_text())
            port = stack.enter_context(machine.forward(22))
            hosts[machine.name] = {"ansible_host": "127.0.0.1", "ansible_port": port}
        inventory = Path(name) / "inventory.json"
        inventory.write_text(
            json.dumps({"all": {"children": {"servers": {"hosts": hosts}}, "vars": _ssh(key)}})
        )
        command = [find_program("ansible-playbook"), "--forks", str(len(ROLES))]
        command += ["--inventory", str(inventory), "site.yml"]

        def over_ssh(**settings: str) -> float:
            return seconds(lambda: _run(command, settings))

        ours, kept, plain = in_turns(
            rounds,
            lambda: seconds(lambda: layout.ansible(TREE / "site.yml", forks=len(ROLES))),
            lambda: over_ssh(ANSIBLE_PIPELINING="1", ANSIBLE_SSH_ARGS=KEPT),
            lambda: over_ssh(ANSIBLE_PIPELINING="0", ANSIBLE_SSH_ARGS="-o ControlMaster=no"),
        )
    what = "three roles of production, nothing left to do"
    versus = "`ansible-playbook` over ssh"
    return [
        Figure(
            what=what,
            unit="s",
            ours=ours,
            other=kept,
            versus=f"{versus}, with pipelining and kept connections",
        ),
        Figure(what=what, unit="s", ours=ours, other=plain, versus=f"{versus}, with neither"),
    ]


def _ssh(key: Path) -> Mapping[str, str]:
    return {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def _run(command: Sequence[str], settings: Mapping[str, str]) -> None:
    play = subprocess.run(
        command,
        check=False,
        cwd=TREE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", **settings},
    )
    if play.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{play.stdout}")


if __name__ == "__main__":
    main(take)
