"""Gates, datagrams and ``inside`` for an ordinary user."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import HostError
from pytest_carthage.fabric.host import privilege
from tests.support.unprivileged import REPOSITORY, as_user

pytestmark = pytest.mark.real

as_it_is = pytest.mark.skipif(os.geteuid() == 0, reason="is run by the last test, as a user")


class Lab(Layout):
    """Two machines."""

    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")})
    two = Machine(links={"eth0": lan.at(".2")})


lab = Lab.fixture()


@as_it_is
def test_gate_needs_no_root(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(b"outside")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with (
            lab.gate("one", to=f"127.0.0.1:{server.getsockname()[1]}") as gate,
            lab.one.connect(gate.port, gate.address) as sock,
        ):
            assert sock.recv(100) == b"outside"
        thread.join(5)


@as_it_is
def test_gate_at_a_port_of_root_needs_no_root(lab: Lab) -> None:
    with lab.gate("one", to="127.0.0.1:443") as gate:
        lab.one.connect(443, gate.address).close()


@as_it_is
def test_datagrams_need_no_root(lab: Lab) -> None:
    with lab.two.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("10.0.0.2", 53))
        with lab.one.connect(53, "two", protocol="udp") as sock:
            sock.send(b"?")
            server.settimeout(5)
            assert server.recv(9) == b"?"


@as_it_is
def test_inside_tells_what_needs_no_root(lab: Lab) -> None:
    expected = r"inside\(\): it needs root .*; try: machine\.connect\(\) or machine\.forward\(\)"
    with pytest.raises(HostError, match=expected), lab.inside("lan"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="the others are run as they are")
def test_ordinary_user_has_all_that() -> None:
    if problems := privilege.user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    # pytest's own temporary folders are closed to others
    with tempfile.TemporaryDirectory(prefix="unprivileged-") as home:
        done = subprocess.run(
            as_user(argv, home=Path(home)),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert "4 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
