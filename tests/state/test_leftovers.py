"""What dead runs have left: found, removed, and kept in mind as long as it cannot be."""

from __future__ import annotations

import asyncio
import fcntl
import time
from pathlib import Path

import pytest

from pytest_carthage.fabric.host import folders
from pytest_carthage.state import journal, sweeping
from pytest_carthage.state.cleaning import Cleaning
from pytest_carthage.state.leftovers import collect_garbage, leftovers
from pytest_carthage.state.run import Run
from tests.state.dead import DeadRun
from tests.state.huts import Huts
from tests.support import hut


@pytest.fixture
def dead(huts: Huts) -> DeadRun:
    return DeadRun(huts.state)


def test_nothing_is_made_by_looking(state: Path) -> None:
    assert leftovers() == []
    assert not state.exists()


def test_hut_of_a_dead_run_is_left_and_was_not_tried(dead: DeadRun) -> None:
    identity = dead.intend(dead.identity("web", id="hut-1"))
    (left,) = leftovers()
    assert left.identity == identity
    assert (left.run, left.folder) == ("dead", dead.folder)
    assert (left.error, left.tried_at, left.tries) == ("", None, 0)
    assert left.name == "hut dead-shop/web (id=hut-1)"


def test_hut_of_a_run_that_is_alive_is_no_leftover(dead: DeadRun) -> None:
    dead.intend(dead.identity("web"))
    with (dead.folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert leftovers() == []
    assert len(leftovers()) == 1


def test_gc_destroys_through_the_provider_and_removes_the_run(dead: DeadRun, huts: Huts) -> None:
    identity = dead.identity("web")
    identity = dead.intend(identity.with_detail(id=hut.exist(identity)))
    collected = collect_garbage()
    assert collected.removed == [str(identity), "environment dead-shop"]
    assert collected.failed == []
    huts.assert_nothing_left()


def test_gc_tells_of_what_is_stuck_and_does_not_forget_it(dead: DeadRun, huts: Huts) -> None:
    free, stuck = dead.identity("free"), dead.identity("web")
    dead.intend(free)
    stuck = dead.intend(stuck.with_detail(id=hut.exist(stuck)))
    huts.stick()
    before = time.time()
    collected = collect_garbage()
    assert collected.removed == [str(free)]
    assert collected.failed == [
        f"{stuck}: RuntimeError: {dict(stuck.detail)['id']} is still in use; log: "
        f"{dead.folder / 'supervisor.log'}"
    ]
    (left,) = leftovers()
    assert left.identity == stuck
    assert left.tries == 1
    assert left.tried_at is not None
    assert left.tried_at >= before
    assert (dead.folder / "envs/dead-shop/logs").is_dir()
    huts.unstick()
    assert collect_garbage().removed == [str(stuck), "environment dead-shop"]
    huts.assert_nothing_left()


def test_gc_of_a_target_that_is_not_installed_keeps_the_run(dead: DeadRun) -> None:
    identity = dead.intend(dead.identity("web", kind="moon"))
    collected = collect_garbage()
    assert collected.removed == []
    (line,) = collected.failed
    assert line.startswith(
        f"{identity}: LookupError: no provider of kind 'moon' is installed; there are: hut, "
    )
    assert [left.identity for left in leftovers()] == [identity]


def test_gc_leaves_a_run_alone_that_somebody_has(dead: DeadRun, huts: Huts) -> None:
    dead.intend(dead.identity("web"))
    with (dead.folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = Cleaning(dead.folder).run()
    assert (done.removed, done.failed) == ([], [])
    assert dead.folder.exists()


def test_gc_removes_a_run_that_never_began(huts: Huts) -> None:
    (huts.state / "runs/early").mkdir(parents=True)
    assert collect_garbage().removed == ["folder of run early"]
    assert collect_garbage().removed == []


def test_gc_tells_of_folders_that_cannot_be_removed(
    dead: DeadRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            folders,
            "remove",
            lambda top, *names: f"{top.joinpath(*names)} cannot be removed: why",
        )
        collected = collect_garbage()
    assert collected.removed == []
    assert collected.failed == [
        f"environment dead-shop: {dead.folder / 'envs/dead-shop'} cannot be removed: why; log: "
        f"{dead.folder / 'supervisor.log'}"
    ]
    (left,) = leftovers()
    assert left.name == "environment dead-shop"
    assert collect_garbage().removed == ["environment dead-shop"]


# a journal that does not tell all


def test_damaged_journal_has_providers_asked_what_exists(dead: DeadRun, huts: Huts) -> None:
    name = hut.exist(dead.identity("web"))
    dead.intend(dead.identity("web", id=name))
    dead.damage("web")
    assert leftovers() == []
    collected = collect_garbage()
    assert collected.failed == []
    assert huts.destroyed() == [f"web {{'id': '{name}'}}"]
    huts.assert_nothing_left()


def test_lost_journal_has_providers_asked_what_exists(dead: DeadRun, huts: Huts) -> None:
    hut.exist(dead.identity("web"))
    dead.journal.unlink()
    assert collect_garbage().failed == []
    huts.assert_nothing_left()


def test_whom_the_journal_names_is_asked_for_more(dead: DeadRun, huts: Huts) -> None:
    dead.intend(dead.identity("web"))
    hut.exist(dead.identity("disk"))  # its provider did not say that it would
    assert collect_garbage().failed == []
    assert {line.partition(" ")[0] for line in huts.destroyed()} == {"web", "disk"}
    huts.assert_nothing_left()


def test_huts_of_another_run_are_left_alone(dead: DeadRun, huts: Huts) -> None:
    other = DeadRun(huts.state / "elsewhere", run_id="another")
    hut.exist(other.identity("web"))
    dead.journal.unlink()
    assert collect_garbage().failed == []
    assert [record["run"] for record in hut.records()] == ["another"]


def test_provider_that_cannot_tell_keeps_the_run_until_it_can(dead: DeadRun, huts: Huts) -> None:
    hut.exist(dead.identity("web"))
    dead.journal.unlink()
    (huts.registry / "silent").touch()
    collected = collect_garbage()
    log = dead.folder / "supervisor.log"
    assert collected.failed == [
        f"whatever target 'hut' knows of: ConnectionError: no way to the huts; log: {log}"
    ]
    (left,) = leftovers()
    assert left.name == "whatever target 'hut' knows of"
    assert len(list(hut.records())) == 1
    (huts.registry / "silent").unlink()
    assert collect_garbage().failed == []
    huts.assert_nothing_left()


def test_dead_run_without_anything_outside_asks_nobody(
    dead: DeadRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping.Sweep, "_run", lambda self: pytest.fail("a sweep was begun"))
    assert collect_garbage().removed == ["environment dead-shop"]


# limits


def test_sweep_that_does_not_end_is_killed_and_told_of(
    dead: DeadRun, huts: Huts, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = dead.intend(dead.identity("web"))
    huts.stop_at("destroying")
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "LIMIT_S", 3.0)
        collected = collect_garbage()
    (line,) = collected.failed
    assert line.startswith(f"{identity}: no end after 3 s; log: ")
    assert collect_garbage().failed == []


def test_join_tries_what_a_dead_run_left_once(dead: DeadRun, huts: Huts) -> None:
    identity = dead.identity("web")
    dead.intend(identity.with_detail(id=hut.exist(identity)))

    async def join() -> Path:
        run = await Run.join("dead")
        run.close()
        return run.folder

    assert asyncio.run(join()) == dead.folder
    huts.assert_nothing_left()


def test_join_that_is_cancelled_ends_the_sweep(dead: DeadRun, huts: Huts) -> None:
    dead.intend(dead.identity("web"))
    huts.stop_at("destroying")

    async def join() -> None:
        joining = asyncio.create_task(Run.join("dead"))
        await asyncio.to_thread(huts.await_step, "destroying")
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining

    began = time.monotonic()
    asyncio.run(join())  # which waits for its threads
    assert time.monotonic() - began < 30
    assert not (huts.registry / "at-destroyed").exists()
    assert [left.tries for left in leftovers()] == [1]


def test_failures_of_a_thing_that_came_back_are_not_its_own(dead: DeadRun) -> None:
    identity = dead.intend(dead.identity("web"))
    dead.fail(identity, "busy")
    assert [(left.error, left.tried_at) for left in leftovers()] == [("busy", 1000.0)]
    assert [f.tries for f in journal.failures(journal.read(dead.journal))] == [1]


def test_retry_of_a_run_that_does_not_answer_is_told_of(
    dead: DeadRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = dead.intend(dead.identity("web"))
    dead.fail(identity, "busy")
    with (dead.folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (line,) = collect_garbage().failed
    assert line.startswith(f"{identity}: its run does not answer: ")
