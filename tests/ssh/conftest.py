"""A live environment as hosts of ssh, shared by the tests of a module."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.host import netns_lacks
from tests.support.unprivileged import REPOSITORY

LAYOUTS = '''
from pytest_carthage import Layout, Machine, Network, port

# http.server itself looks up its own name first, which nobody here knows
SERVES = """
import socketserver
from http.server import SimpleHTTPRequestHandler
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("", 80), SimpleHTTPRequestHandler).serve_forever()
"""


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(
        links={"eth0": lan.at(".1")},
        command=["python3", "-c", SERVES],
        wait_for=[port(80)],
        groups=["shops"],
        variables={"colour": "blue"},
    )
    desk = Machine(links={"eth0": lan.at(".2")})
'''


class Hosts:
    """An environment ``told-pair``, and a configuration by which ssh reaches its machines."""

    def __init__(self, folder: Path, layouts: str) -> None:
        self.folder = folder
        self.config = folder / "ssh_config"
        self.env = {
            **os.environ,
            "CARTHAGE_STATE": str(folder / "state"),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
            "LC_ALL": "C.UTF-8",
            # on localhost; the home of the account that runs this may be closed to it
            "ANSIBLE_REMOTE_TEMP": str(folder / "ansible"),
        }
        (folder / "layouts.py").write_text(layouts)

    @property
    def environment(self) -> Path:
        """Its folder."""
        return self.folder / "state/runs/told/envs/told-pair"

    @contextlib.contextmanager
    def built(self, run: str) -> Iterator[str]:
        """Another environment, of that run; gives its name."""
        done = self.ours("up", "layouts.py:Pair", "--name", run, "--quiet")
        assert done.returncode == 0, done.stderr
        try:
            yield f"{run}-pair"
        finally:
            done = self.ours("rm", f"{run}-pair")
            assert done.returncode == 0, done.stderr

    def ours(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``pytest-carthage``."""
        return self.run([sys.executable, "-m", "pytest_carthage", *words], timeout_s=timeout_s)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this host in the folder."""
        done = subprocess.run(
            argv,
            input=input,
            capture_output=True,
            cwd=self.folder,
            env={**self.env, **(env or {})},
            timeout=timeout_s,
            check=False,
        )
        out, err = (text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(argv, done.returncode, out, err)

    def ssh(
        self, *words: str, input: bytes = b"", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run ssh(1) with the configuration."""
        return self.run(["ssh", "-F", str(self.config), *words], input=input, timeout_s=timeout_s)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    if shutil.which("ssh") is None:
        pytest.skip("no ssh on this host; try: apt install openssh-client")
    with hosts_of(LAYOUTS) as hosts:
        yield hosts


@contextlib.contextmanager
def hosts_of(layouts: str) -> Iterator[Hosts]:
    """Hosts of another layout ``Pair``."""
    with tempfile.TemporaryDirectory(prefix="ssh-") as folder:
        hosts = Hosts(Path(folder), layouts)
        with hosts.built("told"):
            done = hosts.ours("ssh-config", "--output", str(hosts.config))
            assert done.returncode == 0, done.stderr
            yield hosts
