"""What is told of gates: sums, what counts as failed, and the record in plain values."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from pytest_carthage.handles.gates import CUT, GateConnection, GateRecord, GateTotals

GOOD = GateConnection(
    began_at=100.0, ended_at=101.5, sent_bytes=300, received_bytes=7_000, error=None
)
GOES_ON = replace(GOOD, ended_at=None, sent_bytes=11, received_bytes=0)
CUT_OFF = replace(GOOD, sent_bytes=5, received_bytes=6, error=CUT)
REFUSED = replace(GOOD, sent_bytes=0, received_bytes=0, error="connection refused")

OPEN = GateRecord(
    number=1,
    environment="shop",
    machine="web",
    to="archive.example:443",
    listens="127.86.0.1:443",
    for_s=30.0,
    opened_at=99.0,
    closed_at=None,
    closed_by=None,
    connections=(),
)


def test_gate_that_nobody_used_passed_nothing() -> None:
    assert (OPEN.sent_bytes, OPEN.received_bytes, OPEN.failed) == (0, 0, 0)


def test_sums_are_those_of_all_connections_however_they_ended() -> None:
    record = replace(OPEN, connections=(GOOD, GOES_ON, CUT_OFF, REFUSED))
    assert record.sent_bytes == 300 + 11 + 5
    assert record.received_bytes == 7_000 + 6


@pytest.mark.parametrize(
    ("connections", "failed"),
    [
        ((GOOD,), 0),
        ((GOES_ON,), 0),
        ((CUT_OFF, CUT_OFF), 0),
        ((REFUSED,), 1),
        ((GOOD, REFUSED, CUT_OFF, replace(GOOD, error="reset by peer")), 2),
    ],
)
def test_connection_failed_where_it_broke_and_not_where_the_gate_closed(
    connections: tuple[GateConnection, ...], failed: int
) -> None:
    assert replace(OPEN, connections=connections).failed == failed


def test_connections_that_are_only_counted_count() -> None:
    earlier = GateTotals()
    for connection in (GOOD, CUT_OFF, REFUSED):
        earlier = earlier.plus(connection)
    record = replace(OPEN, connections=(GOOD, REFUSED), earlier=earlier)
    assert (record.count, record.failed) == (5, 2)
    assert (record.sent_bytes, record.received_bytes) == (605, 14_006)
    assert record.totals["connections"] == 5
    assert "earlier" not in record.totals
    assert record.as_json()["left_out"] == 3
    assert "left_out" not in replace(record, earlier=GateTotals()).as_json()


def test_error_of_what_a_gate_cut_says_so_in_words() -> None:
    assert CUT == "cut when the gate closed"


def test_totals_count_the_connections_and_keep_all_else() -> None:
    record = replace(OPEN, closed_at=129.0, closed_by="time", connections=(GOOD, REFUSED))
    assert record.totals == {
        "number": 1,
        "environment": "shop",
        "machine": "web",
        "to": "archive.example:443",
        "listens": "127.86.0.1:443",
        "for_s": 30.0,
        "opened_at": 99.0,
        "closed_at": 129.0,
        "closed_by": "time",
        "connections": 2,
        "sent_bytes": 300,
        "received_bytes": 7_000,
        "failed": 1,
    }


def test_json_lists_the_connections_and_is_json() -> None:
    record = replace(OPEN, connections=(GOOD, CUT_OFF))
    told = json.loads(json.dumps(record.as_json()))
    assert told["connections"] == [
        {
            "began_at": 100.0,
            "ended_at": 101.5,
            "sent_bytes": 300,
            "received_bytes": 7_000,
            "error": None,
        },
        {
            "began_at": 100.0,
            "ended_at": 101.5,
            "sent_bytes": 5,
            "received_bytes": 6,
            "error": "cut when the gate closed",
        },
    ]
    assert {name: told[name] for name in told if name != "connections"} == {
        name: value for name, value in record.totals.items() if name != "connections"
    }


def test_json_has_every_field_of_a_gate_and_of_a_connection() -> None:
    told = replace(OPEN, connections=(GOOD,)).as_json()
    assert {one.name for one in fields(GateRecord)} - {"earlier"} <= set(told)
    assert {one.name for one in fields(GateConnection)} == set(told["connections"][0])


def test_gate_that_is_open_has_no_end() -> None:
    told = OPEN.as_json()
    assert (told["closed_at"], told["closed_by"], told["connections"]) == (None, None, [])


def test_record_is_told_by_its_sums() -> None:
    assert repr(OPEN) == (
        "<gate web to archive.example:443, open: 0 connections, 0 bytes out, 0 in>"
    )
    used = replace(OPEN, closed_at=120.0, closed_by="test", connections=(GOOD, CUT_OFF, REFUSED))
    assert repr(used) == (
        "<gate web to archive.example:443, closed: 3 connections, 305 bytes out, 7006 in, "
        "1 failed: 'connection refused'>"
    )
    assert len(repr(replace(used, connections=(REFUSED,) * 1000))) < 240
