"""What becomes of a machine, and of what was done to it, when it leaves a live layout."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_carthage import Layout, Machine, Network, testing
from pytest_carthage.errors import CarthageError, FabricError


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")})
    two = Machine(links={"eth0": lan.at(".2")})


@pytest.fixture
def pair() -> Iterator[Pair]:
    with testing.live(Pair) as live:
        yield live


def test_faults_on_a_machine_end_with_it(pair: Pair) -> None:
    frozen = pair.one.freeze()
    bad = pair.two.link("eth0").impair(loss_pct=5)
    pulled = pair.two.link("eth0").down()
    pair.remove("two")
    assert (bad.is_active, pulled.is_active, frozen.is_active) == (False, False, True)
    assert [fault.kind for fault in testing.fakes(pair).faults if fault.is_active] == ["freeze"]
    frozen.heal()


def test_crashed_machine_is_removed_and_not_started_for_it(pair: Pair) -> None:
    crashed = pair.one.crash()
    pair.remove("one")
    assert not crashed.is_active
    crashed.heal()  # once more is no error, and starts nothing
    assert "one" not in pair


def test_partition_that_a_machine_was_in_goes_on_without_it(pair: Pair) -> None:
    with pair.partition("one", "two") as cut:
        pair.remove("two")
        assert cut.is_active
    assert not cut.is_active


def test_machine_that_cannot_be_destroyed_is_still_there_and_can_be_removed_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    aio = pair.aio
    request = aio.fabric.request

    async def refuse(op: str, /, **fields: object) -> object:
        if op == "remove":
            raise FabricError("the fabric is busy")
        return await request(op, **fields)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(aio.fabric, "request", refuse)
        with pytest.raises(CarthageError, match="the fabric is busy"):
            pair.remove("two")
    assert "two" in pair
    assert pair["two"].name == "two"
    pair.remove("two")
    assert "two" not in pair
    assert [handle.name for handle in pair] == ["one"]


def test_removed_machine_is_no_handle_any_more(pair: Pair) -> None:
    pair.remove("two")
    with pytest.raises(AttributeError, match="has no machine 'two'; its machines are: one"):
        _ = pair.two
    with pytest.raises(KeyError, match="no machine 'two'"):
        pair.remove("two")
    added = pair.add(Machine(links={"eth0": pair.lan.at(".2")}), name="two")
    assert added.address() == "10.0.0.2"
