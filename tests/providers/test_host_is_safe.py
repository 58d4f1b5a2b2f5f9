"""What root of a machine tries at the host and at other machines, and cannot: one table for all.

See :mod:`tests.support.trespass` for the attempts, and why none of them could hurt anybody.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.store.built import Built
from tests.providers.conftest import DEBIAN
from tests.support import marks, trespass
from tests.support.layouts import building

pytestmark = pytest.mark.real

#: machine that tries to that which has something to be found
PAIRS = {"bare": "booted", "plain": "booted", "booted": "plain"}


class Trio(Layout):
    """One of each kind."""

    lan = Network("10.0.0.0/24")
    bare = Machine(links={"eth0": lan.at(".1")})
    plain = Machine(DEBIAN, links={"eth0": lan.at(".2")})
    booted = Machine(DEBIAN, links={"eth0": lan.at(".3")}, init="systemd")


#: machine to what was not refused: attempt to what came of it
Seen = Mapping[str, Mapping[str, str]]


@pytest.fixture(scope="module")
def seen(built: Built) -> Iterator[Seen]:
    if problems := NetnsProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    found: dict[str, Mapping[str, str]] = {}
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}) as build,
    ):
        trio = build(Trio)
        for name, other in PAIRS.items():
            taken = {int(n) for m in trio for n in m.run("ls /proc").lines if n.isdecimal()}
            with marks.left(trio[other], taken=taken) as left:
                table = [row for rows in trespass.tables(left).values() for row in rows]
                program = ["perl", "-e", trespass.PROGRAM]
                printed = trio[name].run(program, input=trespass.text(table)).stdout
                found[name] = trespass.problems(table, json.loads(printed))
        yield found


@pytest.mark.parametrize("at", trespass.names())
@pytest.mark.parametrize("machine", PAIRS)
def test_root_of_a_machine_is_refused(seen: Seen, machine: str, at: str) -> None:
    attempts = trespass.names()[at]
    assert {what: seen[machine][what] for what in attempts if what in seen[machine]} == {}


def test_attempts_are_different_ones_and_many() -> None:
    attempts = [what for table in trespass.names().values() for what in table]
    assert len(set(attempts)) == len(attempts) > 200
