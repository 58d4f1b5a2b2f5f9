"""Machines by tools that bring an ssh of their own, or use that of this host in their own way."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.ssh.conftest import Hosts

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

BESIDE = Path(sys.executable).parent

INFRA = """
def test_machine(host):
    assert host.check_output("hostname") == "desk"
    assert host.file("/etc/hostname").exists
    assert host.user().name == "root"
"""

DEPLOY = """
from pyinfra.operations import files, server

files.put(name="much", src="blob", dest="/tmp/much")
files.line(name="line", path="/tmp/lines", line="colour=blue")
server.shell(name="say", commands=["hostname > /tmp/says"])
"""


@pytest.mark.parametrize("backend", ["ssh", "paramiko"])
def test_testinfra_by_its_own_option(hosts: Hosts, backend: str) -> None:
    (hosts.folder / "test_infra.py").write_text(INFRA)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    argv += [f"--hosts={backend}://desk", f"--ssh-config={hosts.config}", "test_infra.py"]
    done = hosts.run(argv, timeout_s=200)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert "1 passed" in done.stdout


def test_pyinfra_deploys_to_several_machines_at_once(hosts: Hosts) -> None:
    program = shutil.which("pyinfra", path=str(BESIDE))
    if program is None:
        pytest.skip("no pyinfra in this Python's environment; try: pip install pyinfra")
    # more than a pipe holds that nobody has widened
    (hosts.folder / "blob").write_bytes(os.urandom(3 << 20))
    (hosts.folder / "deploy.py").write_text(DEPLOY)
    data = ["--data", f"ssh_config_file={hosts.config}"]
    done = hosts.run([program, "-y", *data, "web,desk", "deploy.py"], timeout_s=200)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    for name in ("web", "desk"):
        told = hosts.ssh(name, "stat -c %s /tmp/much; cat /tmp/lines /tmp/says").stdout
        assert told == f"{3 << 20}\ncolour=blue\n{name}\n"
