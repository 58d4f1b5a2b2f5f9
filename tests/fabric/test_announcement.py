"""Announcements of addresses."""

from __future__ import annotations

from ipaddress import IPv4Address

from pytest_carthage.fabric.announcement import arp


def test_gratuitous_arp_asks_everybody_for_the_senders_own_address() -> None:
    mac = bytes.fromhex("020000000001")
    frame = arp(mac, IPv4Address("10.0.0.50"))
    assert frame[:12] == b"\xff" * 6 + mac
    assert frame[12:22] == bytes.fromhex("0806 0001 0800 06 04 0001".replace(" ", ""))
    assert frame[22:] == mac + bytes([10, 0, 0, 50]) + bytes(6) + bytes([10, 0, 0, 50])
