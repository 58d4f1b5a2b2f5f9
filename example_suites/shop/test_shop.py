"""What the shop must do in production, tried before production."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import MachineHandle, PlaybookResult, command, port
from pytest_carthage_fixtures.shop import PLAYBOOK, Shop

pytestmark = pytest.mark.usefixtures("production")


def ask(machine: MachineHandle, path: str, order: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Ask the web shop from a machine; returns the HTTP status and the answer."""
    curl = ["curl", "--silent", "--max-time", "10", "--write-out", "%{http_code}"]
    if order is not None:
        curl += ["--json", json.dumps(order)]
    body, status = machine.run([*curl, f"http://web{path}"]).stdout.rsplit("\n", 1)
    return int(status), json.loads(body)


def addresses_of_the_host() -> set[str]:
    done = subprocess.run(["ip", "-json", "-4", "address"], check=True, stdout=subprocess.PIPE)
    links = json.loads(done.stdout)
    return {address["local"] for link in links for address in link.get("addr_info", ())}


def tills(shop: Shop) -> list[MachineHandle]:
    return [machine for machine in shop if machine.name.startswith("till-")]


# The services.


def test_services_run_and_start_again(shop: Shop) -> None:
    for machine, name in [(shop.gw, "nftables"), (shop.web, "nginx"), (shop.web, "webshop")]:
        service = machine.host.service(name)
        assert service.is_running
        assert service.is_enabled


def test_program_is_not_reachable_past_its_proxy(shop: Shop) -> None:
    assert shop.web.host.socket("tcp://0.0.0.0:80").is_listening
    assert shop.web.host.socket("tcp://127.0.0.1:8000").is_listening
    assert not shop.web.host.socket("tcp://0.0.0.0:8000").is_listening


def test_password_is_nobody_elses_business(shop: Shop) -> None:
    settings = shop.web.host.file("/etc/webshop.env")
    assert (settings.user, settings.group, settings.mode) == ("root", "webshop", 0o640)


def test_playbook_did_everything(production: PlaybookResult) -> None:
    assert production.ok
    assert set(production.hosts) == {"gw", "db", "web"}


def test_playbook_changes_nothing_the_second_time(shop: Shop) -> None:
    assert not shop.ansible(PLAYBOOK, limit="gw,db,web").changed


# The data.


def test_tills_are_those_of_the_database(shop: Shop) -> None:
    listed = shop.db.run("psql -tAc 'SELECT name FROM tills ORDER BY name' shop", user="postgres")
    assert listed.lines == [till.name for till in sorted(tills(shop), key=lambda m: m.name)]
    assert len(listed.lines) == 6


def test_nobody_gets_mail_from_a_test(shop: Shop) -> None:
    query = "SELECT count(*) FROM customers WHERE email NOT LIKE '%@example.invalid'"
    assert shop.db.run(["psql", "-tAc", query, "shop"], user="postgres").lines == ["0"]


# Business.


def test_every_till_buys(shop: Shop) -> None:
    _, before = ask(shop.db, "/products")
    for till in tills(shop):
        status, sale = ask(till, "/sales", {"till": till.name, "product": 7, "quantity": 2})
        assert (status, sale["till"], sale["quantity"]) == (201, till.name, 2)
        # Tills hide behind the router's address in the DMZ.
        assert sale["seen_from"] == "192.168.1.1"
    _, after = ask(shop.db, "/products")
    assert after[6]["stock"] == before[6]["stock"] - 2 * 6


def test_more_than_there_is_cannot_be_bought(shop: Shop) -> None:
    order = {"till": "till-01", "product": 7, "quantity": 1000}
    assert ask(shop["till-01"], "/sales", order) == (
        409,
        {"error": "there are not 1000 of product 7"},
    )


def test_unknown_till_is_refused(shop: Shop) -> None:
    order = {"till": "till-99", "product": 7, "quantity": 1}
    assert ask(shop["till-01"], "/sales", order)[0] == 403


def test_program_comes_back_after_a_crash(shop: Shop) -> None:
    first = shop.web.run("systemctl show --property MainPID webshop").lines[0]
    shop.web.run("systemctl kill --signal KILL webshop")
    shop.web.wait_for(command(f"systemctl show --property MainPID webshop | grep -vx {first}"))
    shop.web.wait_for(port(8000))
    assert ask(shop["till-02"], "/products")[0] == 200


# The network.


def test_office_is_reachable_from_the_office_only(shop: Shop) -> None:
    till = shop["till-01"].address()
    assert shop.db.ping(till) < 1.0
    assert shop.web.ping("192.168.1.1") < 1.0
    for address in (till, "10.0.0.1"):
        with pytest.raises(TimeoutError, match=f"no echo from {address}"):
            shop.web.ping(address, timeout_s=0.5)
    # One way in is open, or the shop would not sell anything.
    shop.web.connect(5432, "db").close()
    with pytest.raises(TimeoutError, match="no answer"):
        shop.web.connect(22, "db", timeout_s=0.5)


def test_shop_and_host_do_not_meet(shop: Shop) -> None:
    """The host may have these very networks; nothing leaks, neither way."""
    links = [link for machine in shop.plan.machines.values() for link in machine.links]
    on_host = Path("/sys/class/net")
    assert not {link.port for link in links} & {path.name for path in on_host.iterdir()}
    assert not {link.mac for link in links} & {
        path.read_text().strip() for path in on_host.glob("*/address")
    }

    with socket.create_server(("0.0.0.0", 0)) as listener:
        port_of_the_host = listener.getsockname()[1]
        for machine in shop:
            for address in addresses_of_the_host():
                with pytest.raises(OSError, match=address):
                    machine.connect(port_of_the_host, address, timeout_s=0.5)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port_of_nobody = listener.getsockname()[1]
    shop.db.run(f"systemd-run --quiet --collect python3 -m http.server {port_of_nobody}")
    shop.db.wait_for(port(port_of_nobody))
    shop.gw.connect(port_of_nobody, "db").close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of_nobody))
