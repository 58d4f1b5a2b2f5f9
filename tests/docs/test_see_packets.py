"""The snippets of ``docs/how-to/see-packets.md``."""

from __future__ import annotations

import pytest

from pytest_carthage import Layout, Machine, Network, port
from tests.live.conftest import Build, build, portal, recorder, state  # noqa: F401

pytestmark = pytest.mark.real


# http.server itself looks up its own name first, which nobody here knows
SERVES = """
import socketserver
from http.server import SimpleHTTPRequestHandler
socketserver.TCPServer(("", 80), SimpleHTTPRequestHandler).serve_forever()
"""


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")
    gw = Machine(links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")}, masquerade="dmz0")
    db = Machine(links={"eth0": lan.at(".10", gateway=".1")})
    web = Machine(
        links={"eth0": dmz.at(".20", gateway=".1")},
        command=["python3", "-c", SERVES],
        wait_for=[port(80)],
    )


@pytest.fixture
def shop(build: Build) -> Shop:  # noqa: F811
    return build(Shop)


GET = "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://192.0.2.20/\").status)'"


# docs: network
def test_db_hides_behind_the_router(shop: Shop) -> None:
    with shop.capture("dmz", "tcp port 80") as seen:
        shop.db.run(GET)
    first = seen[0]
    assert first.flags == "S"
    assert (first.source, first.destination) == ("gw", "web")
    assert not any(packet.source == "db" for packet in seen)
    # docs: end


# docs: link
def test_web_answers_by_its_own_link(shop: Shop) -> None:
    with shop.web.link("eth0").capture("tcp") as seen:
        shop.db.run(GET)
        answer = seen.wait_for(lambda packet: packet.payload.startswith(b"HTTP/1.0 200"))
    assert answer.sender == "web"
    # docs: end


# docs: sealed
def test_shop_is_sealed(shop: Shop) -> None:
    report = shop.assert_sealed()
    print(report)
    # docs: end
    assert "is sealed" in str(report)
