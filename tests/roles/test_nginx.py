"""nginx, as another machine of the layout sees it."""

from __future__ import annotations

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.roles import Nginx
from tests.providers.conftest import DEBIAN, Build


class Web(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(DEBIAN.with_(Nginx()), links={"eth0": lan.at(".1")})
    big = Machine(DEBIAN, init="systemd", links={"eth0": lan.at(".2")}, roles=[Nginx()])
    client = Machine(DEBIAN.with_packages("curl"), links={"eth0": lan.at(".3")})


@pytest.mark.real
@pytest.mark.timeout(400)
def test_pages_are_served_whether_the_image_has_the_role_or_the_machine(
    build_containers: Build,
) -> None:
    live = build_containers(Web)
    for name in ("web", "big"):
        live[name].write_text("/var/www/html/hello", f"hello from {name}")
        assert live["client"].run(f"curl -sf {name}/hello").stdout == f"hello from {name}"
