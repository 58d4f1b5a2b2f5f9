"""PostgreSQL, as another machine of the layout sees it."""

from __future__ import annotations

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.roles import Postgres
from tests.providers.conftest import DEBIAN, Build


class Databases(Layout):
    lan = Network("10.0.0.0/24")
    closed = Machine(
        DEBIAN,
        links={"eth0": lan.at(".1")},
        roles=[Postgres(password="it's", databases=("shop", "a b"))],
    )
    open = Machine(DEBIAN, init="systemd", links={"eth0": lan.at(".2")}, roles=[Postgres()])
    client = Machine(DEBIAN.with_packages("postgresql-client"), links={"eth0": lan.at(".3")})


@pytest.mark.real
@pytest.mark.timeout(400)
def test_clients_of_the_network_reach_their_databases(build_containers: Build) -> None:
    client = build_containers(Databases)["client"]
    names = "psql -h closed -U postgres -tA -c 'select datname from pg_database' shop"
    listed = client.run(names, env={"PGPASSWORD": "it's"}).lines
    assert {"shop", "a b"} <= set(listed)
    refused = client.run(names, env={"PGPASSWORD": "its"}, check=False)
    assert "password authentication failed" in refused.stderr
    assert client.run("psql -h open -U postgres -tA -c 'select 1'").stdout == "1\n"
