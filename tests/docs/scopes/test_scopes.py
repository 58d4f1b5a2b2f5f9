"""The suite of ``docs/explanation/scopes.md``: one test after the other, in one process."""

from __future__ import annotations

from pytest_carthage import Layout, Machine, Network, stage

RAN: list[str] = []


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    left = Machine(links={"eth0": lan.at(".1")})
    right = Machine(links={"eth0": lan.at(".2")})


# docs: scopes
pair = Pair.fixture(scope="module")  # once for this file
fresh_pair = Pair.fixture(scope="function")  # for each test that asks for it


@stage
def imported(fresh_pair: Pair) -> None:  # as often as its layout
    fresh_pair.left.write_text("/srv/till", "till-1\n")
    # docs: end
    RAN.append(fresh_pair.name)


def test_first_crashes_what_is_its_own(fresh_pair: Pair, imported: None) -> None:
    fresh_pair.right.crash()
    fresh_pair.left.write_text("/srv/till", "broken\n")


def test_second_has_machines_that_nobody_has_touched(
    fresh_pair: Pair, imported: None, pair: Pair
) -> None:
    assert fresh_pair.left.read_text("/srv/till") == "till-1\n"
    assert fresh_pair.left.ping("right") < 5
    assert len(set(RAN)) == 2
    # another environment of the same layout, with the same addresses
    assert not pair.left.exists("/srv/till")
    pair.left.write_text("/srv/left-here", "")


def test_third_finds_what_the_second_left_in_the_file_s_layout(pair: Pair) -> None:
    assert pair.left.exists("/srv/left-here")
    pair.left.link("eth0").down()


def test_fault_that_was_forgotten_has_healed(pair: Pair) -> None:
    assert pair.left.ping("right") < 5
