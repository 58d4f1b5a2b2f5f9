import pytest


def test_outage(shop):
    with shop.web.link("eth0").down(), pytest.raises(TimeoutError):
        shop.web.ping("db", timeout_s=0.5)


def test_site(shop):
    assert shop.web.run("echo no such site >&2; exit 3", check=False).ok


def test_packets(shop):
    with shop.capture("lan", "icmp") as packets:
        shop.web.ping("db")
    assert not packets


def test_order(deployed): ...


def test_payment(deployed): ...


def test_refund(deployed): ...
