"""What the tests of that suite say."""

from __future__ import annotations

from typing import Any


def test_checkout_knows_all_tills(shop: Any, deployed: None) -> None:
    assert shop.web.read_text("/srv/motd") == "2 tills\n"
