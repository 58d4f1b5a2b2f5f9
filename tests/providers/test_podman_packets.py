"""Captures and the proof that a layout is sealed, with containers in it."""

from __future__ import annotations

import pytest

from pytest_carthage import Layout, Machine, Network
from tests.providers.conftest import DEBIAN, Build

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


class Mixed(Layout):
    """A container and a machine of namespaces on one network."""

    lan = Network("10.0.0.0/24")
    debian = DEBIAN
    box = Machine(debian, links={"eth0": lan.at(".2")})
    plain = Machine(links={"eth0": lan.at(".3")})


def test_container_is_seen_on_its_network_and_on_its_link(build: Build) -> None:
    layout = build(Mixed)
    with layout.capture("lan", "icmp") as lan, layout.box.links["eth0"].capture("icmp") as link:
        layout.box.run("ping -c1 10.0.0.3", check=True)
        lan.wait_for(2)
    for seen in (lan, link):
        assert [(p.source, p.destination, p.icmp_type) for p in seen] == [
            ("box", "plain", 8),
            ("plain", "box", 0),
        ]


def test_layout_with_a_container_is_sealed(build: Build) -> None:
    layout = build(Mixed)
    report = layout.assert_sealed()
    # both have sent everything that there is, the container as well
    assert report.silent == ()
    assert report.probes["ARP"] >= 2
    assert report.duration_s < 3
