"""Faults of containers: frozen with all that runs in them, crashed, and on a bad link."""

from __future__ import annotations

import time

import pytest

from pytest_carthage import Layout, Machine, Network, unit
from pytest_carthage.errors import FabricError

from .conftest import DEBIAN, Build

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(DEBIAN, links={"eth0": lan.at(".1")})
    b = Machine(DEBIAN, links={"eth0": lan.at(".2")}, init="systemd", wait_for=[unit("dbus")])


def test_container_freezes_crashes_and_has_a_bad_link(build: Build) -> None:
    pair = build(Pair)
    a, b = pair["a"], pair["b"]
    with b.link("eth0").impair(delay_ms=20):
        assert 0.040 <= min(a.ping("b") for _ in range(5)) < 0.2
    with b.link("eth0").down():
        assert "NO-CARRIER" in b.run("ip link show eth0").stdout
    b.run(["setsid", "-f", "sh", "-c", "while sleep 0.01; do echo >> /tmp/c; done >/dev/null 2>&1"])
    time.sleep(0.1)
    with b.freeze() as fault:
        a.ping("b")
        with pytest.raises(FabricError, match=r"it is frozen; try: heal\(\)"):
            b.run("true")
        time.sleep(0.5)
    counted = len(b.read_text("/tmp/c"))
    assert counted < 35
    assert b.run("systemctl is-active dbus").ok
    assert fault.aio.portal is b.aio.portal

    b.write_text("/srv/kept", "disk")
    for machine in (a, b):
        fault = machine.crash()
        with pytest.raises(FabricError, match=r"it is crashed; try: heal\(\)"):
            machine.run("true")
        other = b if machine is a else a
        with pytest.raises(OSError, match=r"no echo|unreachable"):
            other.ping(machine.name, timeout_s=0.3)
        fault.heal()
        assert machine.run("true").ok
        other.ping(machine.name)
    assert b.read_text("/srv/kept") == "disk"
    assert b.run("systemctl is-active dbus").ok
