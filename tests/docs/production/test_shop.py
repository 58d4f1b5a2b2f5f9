from typing import Any


def test_motto_is_there(shop: Any) -> None:
    shop.ansible("site.yml")
    assert shop.web.read_text("/etc/motto") == "We deliver\n"
