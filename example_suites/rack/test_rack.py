"""The shop with its database on a server in a rack."""

import json

import pytest

from pytest_carthage_fixtures.shop import PLAYBOOK

pytestmark = pytest.mark.usefixtures("production")


def test_playbook_did_everything_on_the_server_too(production):
    assert production.ok
    assert set(production.hosts) == {"gw", "db", "web"}


def test_playbook_changes_nothing_the_second_time(shop):
    assert not shop.ansible(PLAYBOOK).changed


def test_web_shop_sells_what_the_servers_database_has(shop):
    products = json.loads(shop.gw.run("curl --silent --fail http://web/products").stdout)
    listed = shop.db.run("psql -tAc 'SELECT count(*) FROM products' shop", user="postgres")
    assert len(products) == int(listed.stdout) > 0


def test_server_reaches_the_web_shop_through_the_gate(shop, joined):
    answer = shop.db.run(f"curl --silent --fail http://{joined.address}:{joined.port}/products")
    assert len(json.loads(answer.stdout)) > 0
    assert joined.record.failed == 0


def test_assertions_are_as_of_any_machine(shop):
    assert shop.db.host.service("postgresql").is_running
    assert shop.db.host.file("/etc/debian_version").exists


def test_server_has_a_lease_and_is_otherwise_as_it_was(shop, rack):
    lease = rack.db1.run("readlink /run/lock/pytest-carthage.lease").stdout
    assert "(db)" in lease
    assert "web" not in rack.db1.read_text("/etc/hosts")


def test_rack_and_office_have_the_same_addresses(shop, rack):
    assert rack.db1.address("room") == shop.db.address("rack") == "10.0.0.10"
