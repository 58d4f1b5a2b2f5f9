from __future__ import annotations

from pytest_carthage.planning.naming import bridge_name, port_name


def test_short_names_stay_readable() -> None:
    assert bridge_name("lan", ()) == "br-lan"
    assert port_name("web", "eth0", ()) == "web-eth0"


def test_long_names_are_cut_and_told_apart() -> None:
    one = port_name("warehouse-berlin-1", "eth0", ())
    other = port_name("warehouse-berlin-2", "eth0", ())
    assert one != other
    assert one.startswith("wareho-")
    assert len(one) == len(other) == 15


def test_names_that_are_taken_are_told_apart() -> None:
    first = bridge_name("lan", {"br-lan"})
    assert first != "br-lan"
    assert bridge_name("lan", {"br-lan", first}) not in {"br-lan", first}


def test_names_of_other_alphabets_become_ascii() -> None:
    assert bridge_name("büro", ()).isascii()
