"""What docs/how-to/real-hosts.md says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Here, Layout, Machine, Network, Ssh
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.ssh import SshProvider
from tests.support.layouts import building, end
from tests.support.rack import LEASE, Rack, rack

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="a rack of our own needs root"),
]

RETURNED = Path("/tmp")  # replaced by each run


# docs: layout
class Shop(Layout):
    """A web shop; its database is a server in the rack."""

    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".20")})
    db = Machine(
        on=Ssh("db1.lab", on_return=["rm -rf /tmp/imported", Here("test $CARTHAGE_HOST = db1.lab")])
    )


# docs: end


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with rack(tmp_path_factory.mktemp("rack") / "db1") as made:
        yield made


@pytest.fixture
def shop(host: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The user's own ssh knows the host."""
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(parents=True)
    (folder / "config").write_text(
        f"Host db1.lab\n  User root\n  IdentityFile {host.identity}\n"
        f"  ProxyCommand {host.proxy_command}\n"
    )
    (folder / "known_hosts").write_text(f"db1.lab {host.host_key}\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    providers: Any = {"netns": NetnsProvider, "ssh": SshProvider}
    before = sorted(path.name for path in folder.iterdir())
    with contextlib.closing(Portal()) as portal, building(portal, providers) as build:
        made = build(Shop)
        yield made
        end(made)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder / "known_hosts").read_text() == f"db1.lab {host.host_key}\n"


def test_users_own_configuration_leads_there(shop: Any, host: Rack) -> None:
    assert "lease" in host.run("ls /run/lock")
    # docs: use
    shop.db.run("mkdir /tmp/imported")
    shop.db.write_text("/tmp/imported/tills", "till-01\n")
    assert shop.db.host.file("/tmp/imported/tills").contains("till-01")
    # docs: end
    end(shop)
    assert host.run("ls /tmp /run/lock").split() == ["/run/lock:", "/tmp:"]


def test_gates_join_it_with_the_others(shop: Any) -> None:
    server = (
        "import socket, sys\n"
        "with socket.create_server(('127.0.0.1', int(sys.argv[1]))) as listener:\n"
        "    listener.accept()[0].sendall(sys.argv[2].encode())\n"
    )
    for machine, number, word in ((shop.db, "5432", "rows"), (shop.web, "8080", "page")):
        machine.run(
            ["sh", "-c", 'python3 -c "$0" "$@" >/dev/null 2>&1 </dev/null &', server, number, word]
        )
        machine.wait_for(_listens(int(number)))
    # docs: gates
    with (
        shop.gate("web", to="db:5432"),
        shop.gate("db", to="web:8080") as back,
    ):
        with shop.web.connect(5432, "db") as near:
            assert near.recv(9) == b"rows"
        with shop.db.connect(back.port, back.address) as near:
            assert near.recv(9) == b"page"
    # docs: end


def _listens(number: int) -> Any:
    from pytest_carthage import port

    return port(number)


def test_lease_tells_who_has_it(shop: Any, host: Rack) -> None:
    assert '"owner": ' in host.run(f"readlink {LEASE}")
