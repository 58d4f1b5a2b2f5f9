"""The snippet on secrets of ``docs/how-to/keep-and-look.md``."""

from __future__ import annotations

import pytest

from pytest_carthage import Layout, Machine
from tests.support.host import netns_lacks


class Shop(Layout):
    db = Machine()


shop = Shop.fixture()


@pytest.mark.real
def test_secrets_are_nobody_s_business(shop: Shop) -> None:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    password = "the till is open"
    # docs: secret
    token = shop.db.run(["cat"], input=password, env={"PGPASSWORD": password}, secret=True).stdout
    shop.db.host.run("printenv HOME", secret=True)
    # docs: end
    assert token == password
    assert [result.stdout for result in shop.db.commands] == ["", ""]
    assert password not in repr(shop.db.commands)
