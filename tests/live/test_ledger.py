"""What an environment's folder says of it to those who come later."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from pytest_carthage import Layout, Machine, Network, Role, stage
from pytest_carthage.errors import StateError
from pytest_carthage.live import ledger
from pytest_carthage.model.stage import ATTRIBUTE, Stage
from pytest_carthage.planning import extend_plan, make_plan
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.traits import Traits

TARGETS = {"netns": Traits(root="host", init=True, outside=False, needs="folders", is_default=True)}


class Pair(Layout):
    """Two machines."""

    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")})
    two = Machine(links={"eth0": lan.at(".2")})


class Till(Role):
    """A role of an author's."""


@dataclass(frozen=True)
class Caller(Role):
    """A role with something that no other process can have."""

    call: Callable[[], int]


@stage
def imported() -> None:
    """A stage."""


STAGE: Stage = getattr(imported, ATTRIBUTE)


def _plan() -> Plan:
    return make_plan(Pair, targets=TARGETS)


def test_ledger_comes_back_as_it_was(tmp_path: Path) -> None:
    ledger.begin(tmp_path, Pair, _plan(), fixture="pair", suite="/suite", target="netns")
    read = ledger.read(tmp_path)
    assert (read.layout, read.file) == ("Pair", str(Path(__file__).resolve()))
    assert (read.fixture, read.suite, read.target) == ("pair", "/suite", "netns")
    assert list(read.declared["machines"]) == ["one", "two"]
    assert read.stages == {}


@pytest.mark.parametrize("value", [None, 3, "text", {"rows": [1, 2]}, []])
def test_value_of_a_stage_is_kept(tmp_path: Path, value: object) -> None:
    ledger.begin(tmp_path, Pair, _plan())
    ledger.note_stage(tmp_path, STAGE, value)
    ran = ledger.read(tmp_path).stages["imported"]
    assert (ran.key, ran.has_value, ran.value) == (STAGE.key, True, value)
    ledger.forget_stage(tmp_path, "imported")
    assert ledger.read(tmp_path).stages == {}


@pytest.mark.parametrize("value", [object(), (1, 2), {1: 2}, {"a": (1,)}, b"bytes", float("nan")])
def test_value_that_would_come_back_as_another_one_is_not_kept(
    tmp_path: Path, value: object
) -> None:
    ledger.begin(tmp_path, Pair, _plan())
    ledger.note_stage(tmp_path, STAGE, value)
    assert not ledger.read(tmp_path).stages["imported"].has_value
    json.loads((tmp_path / "ledger.json").read_text())


def test_machines_that_joined_come_back_and_those_that_left_do_not(tmp_path: Path) -> None:
    plan = _plan()
    ledger.begin(tmp_path, Pair, plan)
    joined = Machine(
        links={"eth0": Pair.lan.at("auto")}, env={"A": "1"}, variables={"x": [1]}, roles=[Till()]
    )
    extended, planned = extend_plan(plan, "till", joined)
    machines = {name: each for name, each in extended.machines.items() if name != "two"}
    now = replace(extended, machines=MappingProxyType(machines))
    assert ledger.keep_members(tmp_path, now) == []
    back, complaints = ledger.members(tmp_path, ledger.read(tmp_path), _plan())
    assert complaints == []
    assert list(back.machines) == ["one", "till"]
    till = back.machines["till"]
    assert (till.links, till.env, till.variables) == (planned.links, planned.env, planned.variables)
    assert type(till.roles[0]) is Till


def test_machine_that_cannot_be_written_is_told_of_by_name(tmp_path: Path) -> None:
    plan = _plan()
    ledger.begin(tmp_path, Pair, plan)
    extended, _ = extend_plan(plan, "till", Machine(roles=[Caller(lambda: 3)]))
    (complaint,) = ledger.keep_members(tmp_path, extended)
    assert complaint.startswith("machine 'till', which was added, cannot be taken up again later:")
    _, (missing,) = ledger.members(tmp_path, ledger.read(tmp_path), plan)
    assert missing == "machine 'till', which was added, is not written down"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stages": 3, "machines": null}'])
def test_ledger_that_cannot_be_read_says_whose_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(
        StateError, match=r"ledger\.json .* it never came up whole, or is of another version"
    ):
        ledger.read(tmp_path)
