import os
import shutil
import tempfile
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, Ssh, port, stage
from pytest_carthage.roles import Postgres, SshServer, ssh_key
from pytest_carthage_fixtures.shop import PLAYBOOK, Shop, imported

__all__ = ["imported", "rack", "shop"]

# Who has a rack has an ~/.ssh/config and a known_hosts, and leaves config= out.
ACCESS = Path(tempfile.gettempdir()) / f"rack-{os.getpid()}"


class Rack(Layout):
    """Stands for a room with a server in it. Yours is there already."""

    room = Network("10.0.0.0/24")  # the shop's own office has these addresses, too
    db1 = Machine(
        Shop.debian,
        init="systemd",
        roles=[Postgres(databases=("shop",)), SshServer()],
        links={"eth0": room.at(".10", gateway=".1")},
    )
    switch = Machine(links={"eth0": room.at(".1")})


class RackShop(Shop):
    """The shop, whose database is a server that exists."""

    rack = Network("10.0.0.0/24", external="the server room, rack 4")
    db = Machine(
        on=Ssh(
            "db1.lab",
            config=ACCESS / "ssh_config",
            on_return="runuser -u postgres -- psql -qc 'DROP DATABASE shop WITH (FORCE)'"
            " -c 'CREATE DATABASE shop'",
        ),
        groups=["database"],
        links={"eth0": rack.at(".10")},
    )


rack = Rack.fixture()
shop = RackShop.fixture()


@pytest.fixture(scope="session", autouse=True)
def lab(rack):
    """The server can be reached, as db1.lab."""
    ACCESS.mkdir(mode=0o700)
    key = rack.db1.run("cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub").stdout
    (ACCESS / "known_hosts").write_text(f"db1.lab {key}")
    with rack.db1.forward(22) as local:
        (ACCESS / "ssh_config").write_text(
            f"Host db1.lab\n"
            f"  HostName 127.0.0.1\n  Port {local}\n  HostKeyAlias db1.lab\n"
            f"  User root\n  IdentityFile {ssh_key(rack)}\n"
            f"  UserKnownHostsFile {ACCESS}/known_hosts\n"
        )
        yield
        # it was given back, and as it had been before
        assert not rack.db1.run(r"psql -qAtc '\dt' shop", user="postgres").stdout
    shutil.rmtree(ACCESS)


@pytest.fixture(scope="session")
def joined(shop):
    """Web shop and database reach each other, as if there were a network between them."""
    with (
        shop.gate("web", to="db:5432", for_s=3600),
        shop.gate("db", to="web:80", for_s=3600) as back,
    ):
        yield back


@stage(timeout_s=600)
async def production(shop, imported, joined):
    """Production's playbook has run, on the server and on the machines beside it."""
    result = await shop.aio.ansible(PLAYBOOK)
    await shop.web.aio.wait_for(port(8000))
    return result
