"""What a playbook did: whether anything changed, and whether all went well."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pytest

from pytest_carthage.handles.playbook import HostResult, PlaybookResult, Status, TaskResult

NOTHING = PlaybookResult(
    playbook=Path("site.yml"),
    hosts={},
    tasks=(),
    unmatched=(),
    log=Path("site.log"),
    duration_s=1.5,
)


@pytest.mark.parametrize(
    ("host", "ok", "changed"),
    [
        (HostResult(), True, False),
        (HostResult(ok=7), True, False),
        (HostResult(ok=7, changed=1), True, True),
        (HostResult(skipped=3), True, False),
        (HostResult(failed=1), False, False),
        (HostResult(unreachable=1), False, False),
        (HostResult(changed=2, failed=1), False, True),
        # what the play itself has dealt with is no failure
        (HostResult(ok=1, rescued=1), True, False),
        (HostResult(ok=1, ignored=2), True, False),
    ],
)
def test_playbook_is_ok_and_changed_as_its_machines_are(
    host: HostResult, ok: bool, changed: bool
) -> None:
    done = replace(NOTHING, hosts={"web": host})
    assert (done.ok, done.changed) == (ok, changed)
    # one among others decides, wherever it stands
    for hosts in ({"a": HostResult(ok=1), "web": host}, {"web": host, "z": HostResult(ok=1)}):
        among = replace(NOTHING, hosts=hosts)
        assert (among.ok, among.changed) == (ok, changed)


def test_playbook_that_met_no_machine_did_nothing_and_failed_nowhere() -> None:
    assert NOTHING.ok
    assert not NOTHING.changed
    assert NOTHING.reads == frozenset()


def test_host_that_nothing_was_done_on_has_zeros() -> None:
    assert {one.name: getattr(HostResult(), one.name) for one in fields(HostResult)} == {
        "ok": 0,
        "changed": 0,
        "failed": 0,
        "unreachable": 0,
        "skipped": 0,
        "rescued": 0,
        "ignored": 0,
    }


def test_statuses_of_tasks_are_counted_under_their_names() -> None:
    assert set(get_args(Status)) <= {one.name for one in fields(HostResult)}


def test_task_may_be_written_nowhere() -> None:
    task = TaskResult(
        play="all", name="ping", host="web", status="ok", message="pong", duration_s=0.1
    )
    assert task.path == ""
