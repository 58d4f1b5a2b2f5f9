"""The supervisor while it destroys, when it cannot, and when it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import FabricError, StateError
from pytest_carthage.fabric.host import privilege
from pytest_carthage.fabric.wire.channel import AsyncChannel
from pytest_carthage.portal import Portal
from pytest_carthage.provider import Identity
from pytest_carthage.state import journal, listing
from pytest_carthage.state import run as runs
from pytest_carthage.state.leftovers import collect_garbage, leftovers
from pytest_carthage.state.run import Run
from tests.state.conftest import Join
from tests.state.huts import Huts
from tests.support import hut
from tests.support.leftovers import assert_nothing_left, of_this_test


class Client:
    """A run, and what its client asks its supervisor for, one thing after the other."""

    def __init__(self, run: Run, portal: Portal) -> None:
        self.run = run
        self._portal = portal
        self._fabrics: list[AsyncChannel] = []

    def call(self, ask: Callable[[], Awaitable[object]]) -> None:
        async def go() -> None:
            await ask()

        self._portal.call(go)

    def begin(self, name: str) -> None:
        async def go() -> None:
            unprivileged = not privilege.is_privileged()
            _, fabric = await self.run.environment(name, {}, unprivileged=unprivileged)
            self._fabrics.append(fabric)

        self.call(go)

    def close(self) -> None:
        async def go() -> None:
            for fabric in self._fabrics:
                fabric.close()

        self.call(go)

    def intend(self, name: str, environment: str) -> Identity:
        identity = Identity(
            kind="hut", run=self.run.id, environment=environment, name=name, outside=True
        )
        self.call(lambda: self.run.intend(identity))
        return identity

    def hut(self, name: str, environment: str) -> Identity:
        """Intend a hut, and have it."""
        identity = self.intend(name, environment)
        identity = identity.with_detail(id=hut.exist(identity))
        self.call(lambda: self.run.intend(identity))
        return identity

    def destroy(self, environment: str) -> None:
        self.call(lambda: self.run.destroy(environment))

    def destroy_meanwhile(self, environment: str) -> asyncio.Future[object]:
        """Begin to destroy; it goes on while others ask."""
        return asyncio.run_coroutine_threadsafe(  # type: ignore[return-value]
            self.run.destroy(environment), self._portal.loop
        )

    def leave(self) -> None:
        self._portal.loop.call_soon_threadsafe(self.run.close)

    @property
    def journal(self) -> Path:
        return self.run.folder / "journal.jsonl"


@pytest.fixture
def client(huts: Huts, join: Join, portal: Portal) -> Iterator[Client]:
    client = Client(join("busy"), portal)
    yield client
    client.close()


def supervisor_of(state: Path) -> int:
    folders = sorted((state / "runs").glob("[!.]*"))
    return int((folders[0] / "lock").read_text())


@pytest.fixture
def stopped(huts: Huts) -> Iterator[Callable[[], int]]:
    """Stops the supervisor, which goes on at the end of the test."""
    pids: list[int] = []

    def stop() -> int:
        pids.append(supervisor_of(huts.state))
        os.kill(pids[-1], signal.SIGSTOP)
        return pids[-1]

    yield stop
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def end_sweep(state: Path) -> None:
    """Kill the process that has the providers."""
    for pid in of_this_test(state):
        with contextlib.suppress(OSError):
            if b"pytest_carthage.state.sweeper" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


# what cannot be destroyed


def test_destroy_of_what_is_stuck_says_so_and_the_journal_keeps_it(
    client: Client, huts: Huts
) -> None:
    client.begin("busy-a")
    identity = client.hut("web", "busy-a")
    huts.stick()
    with pytest.raises(
        StateError,
        match=r"environment 'busy-a': something of it could not be destroyed:\n"
        r"  hut web: RuntimeError: hut-\w+ is still in use\n"
        r"it is listed by pytest-carthage ls; try again with: pytest-carthage gc",
    ):
        client.destroy("busy-a")
    (left,) = leftovers()
    assert left.identity == identity
    assert (left.run, left.tries) == ("busy", 1)
    assert left.error.endswith("is still in use")
    assert listing.list_environments() == []


def test_gc_has_a_living_run_try_again(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    client.begin("busy-b")
    identity = client.hut("web", "busy-a")
    huts.stick()
    with pytest.raises(StateError):
        client.destroy("busy-a")
    collected = collect_garbage()
    assert collected.removed == []
    (line,) = collected.failed
    assert line.startswith(f"{identity}: RuntimeError: ")
    assert f"; log: {client.run.folder / 'supervisor.log'}" in line
    assert [left.tries for left in leftovers()] == [2]
    huts.unstick()
    collected = collect_garbage()
    assert (collected.removed, collected.failed) == ([str(identity)], [])
    assert not (client.run.folder / "envs/busy-a").exists()
    assert [one.name for one in listing.list_environments()] == ["busy-b"]
    client.leave()
    huts.assert_nothing_left()


def test_environment_of_a_name_that_is_not_destroyed_is_refused(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    client.hut("web", "busy-a")
    huts.stick()
    with pytest.raises(StateError):
        client.destroy("busy-a")
    with pytest.raises(
        FabricError, match=r"an earlier environment 'busy-a' of this run could not be destroyed"
    ):
        client.begin("busy-a")
    huts.unstick()
    assert collect_garbage().failed == []
    client.begin("busy-a")
    client.leave()
    huts.assert_nothing_left()


def test_run_that_ends_with_something_stuck_leaves_it_to_gc(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    identity = client.hut("web", "busy-a")
    huts.stick()
    client.leave()
    huts.await_end_of_supervisor()
    assert [left.identity for left in leftovers()] == [identity]
    assert (client.run.folder / "envs/busy-a").is_dir()  # its provider may need what is there
    collected = collect_garbage()
    assert collected.removed == []
    assert len(collected.failed) == 1
    assert [left.tries for left in leftovers()] == [2]
    huts.unstick()
    assert collect_garbage().removed == [str(identity), "environment busy-a"]
    huts.assert_nothing_left()


def test_name_of_a_run_that_is_stuck_is_free_for_another(
    client: Client, huts: Huts, join: Join
) -> None:
    client.begin("busy-a")
    client.hut("web", "busy-a")
    huts.stick()
    client.leave()
    huts.await_end_of_supervisor()
    again = join("busy", token="another")
    assert again.folder == client.run.folder.with_name("busy.2")
    assert again.id != client.run.id
    assert [left.tries for left in leftovers()] == [1]  # joining does not wait for another try
    assert listing.alive_run("busy")
    huts.unstick()
    assert collect_garbage().failed == []
    assert not client.run.folder.exists()
    assert again.folder.exists()


# while it destroys


def test_slow_destruction_of_one_leaves_the_others_served(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    client.hut("web", "busy-a")
    huts.stop_at("destroying")
    destruction = client.destroy_meanwhile("busy-a")
    huts.await_step("destroying")
    began = time.monotonic()
    client.begin("busy-b")
    assert [one.name for one in listing.list_environments()] == ["busy-b"]
    assert time.monotonic() - began < 5
    assert not destruction.done()
    end_sweep(huts.state)
    with pytest.raises(StateError, match=r"hut web: the sweep ended with status -9; see .*log"):
        destruction.result()
    assert collect_garbage().failed == []
    client.leave()
    huts.assert_nothing_left()


def test_destroy_twice_at_once_is_answered_twice(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    client.hut("web", "busy-a")
    huts.stop_at("destroying")
    first = client.destroy_meanwhile("busy-a")
    huts.await_step("destroying")
    second = client.destroy_meanwhile("busy-a")
    client.begin("busy-b")  # was asked for later
    end_sweep(huts.state)
    for destruction in (first, second):
        with pytest.raises(StateError, match="the sweep ended with status -9"):
            destruction.result()
    assert len(huts.destroyed()) == 1


def test_intent_that_comes_too_late_is_refused_and_kept(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    client.hut("web", "busy-a")
    huts.stop_at("destroying")
    client.destroy_meanwhile("busy-a")
    huts.await_step("destroying")
    with pytest.raises(FabricError, match="environment 'busy-a' is being destroyed"):
        client.intend("late", "busy-a")
    hut.exist(Identity(kind="hut", run=client.run.id, environment="busy-a", name="late"))
    end_sweep(huts.state)
    client.leave()
    huts.await_end_of_supervisor()
    assert {left.identity.name for left in leftovers()} == {"web", "late"}
    assert collect_garbage().failed == []
    huts.assert_nothing_left()


def test_intent_for_an_unknown_environment_is_refused(client: Client) -> None:
    with pytest.raises(FabricError, match="no environment 'busy-x'; there are: none"):
        client.intend("web", "busy-x")


def test_supervisor_that_is_told_to_end_destroys_first(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    client.hut("web", "busy-a")
    os.kill(supervisor_of(huts.state), signal.SIGTERM)
    huts.assert_nothing_left()
    assert len(huts.destroyed()) == 1


def test_nothing_new_begins_in_a_run_that_is_ending(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    client.hut("web", "busy-a")
    huts.stop_at("destroying")
    os.kill(supervisor_of(huts.state), signal.SIGTERM)
    huts.await_step("destroying")
    with pytest.raises(FabricError, match="this run is ending"):
        client.begin("busy-b")
    end_sweep(huts.state)
    huts.await_end_of_supervisor()
    assert collect_garbage().failed == []
    huts.assert_nothing_left()


def test_destroyed_by_its_builder_is_not_destroyed_again(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    identity = client.intend("web", "busy-a")
    client.call(lambda: client.run.destroyed(identity))
    client.destroy("busy-a")
    assert not (huts.registry / "destroyed.log").exists()
    client.leave()
    huts.assert_nothing_left()


# what is known of environments


def test_description_is_added_to_and_is_on_disk(client: Client) -> None:
    client.begin("busy-a")
    client.call(lambda: client.run.describe("busy-a", {"layout": "Hamlet"}))
    (alive,) = listing.list_environments()
    assert (alive.layout, alive.owned, alive.owner_pid) == ("Hamlet", True, os.getpid())
    known = json.loads((alive.folder / "environment.json").read_text())
    assert (known["name"], known["layout"], known["run"]) == ("busy-a", "Hamlet", "busy")


def test_second_environment_of_a_name_is_refused(client: Client) -> None:
    client.begin("busy-a")
    with pytest.raises(FabricError, match="there is an environment 'busy-a' already"):
        client.begin("busy-a")
    assert [one.name for one in listing.list_environments()] == ["busy-a"]


def test_journal_has_the_identity_of_the_run(client: Client) -> None:
    client.begin("busy-a")
    (entry,) = journal.read(client.journal)
    assert entry["identity"] == journal.fabric(client.run.id, "busy-a")
    assert client.run.id == (client.run.folder / "id").read_text()


# a supervisor that does not answer


def test_supervisor_that_does_not_answer_is_told_of(
    client: Client, huts: Huts, stopped: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.begin("busy-a")
    pid = stopped()
    monkeypatch.setattr(listing, "_ANSWER_S", 0.2)
    seen = listing.look()
    assert seen.environments == ()
    (complaint,) = seen.silent
    assert complaint == (
        f"run 'busy': its supervisor (process {pid}) has not answered for 0.2 s; log: "
        f"{client.run.folder / 'supervisor.log'}; try: end that process, then pytest-carthage gc"
    )


def test_supervisor_of_another_version_is_told_of_and_hides_no_other(
    client: Client, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.begin("busy-a")
    read = listing._listed

    def listed(folder: Path, row: Mapping[str, Any]) -> listing.Listed:
        if folder == client.run.folder:
            row = {name: value for name, value in row.items() if name != "folder"}
        return read(folder, row)

    monkeypatch.setattr(listing, "_listed", listed)
    join("other")
    seen = listing.look()
    assert seen.environments == ()
    (complaint,) = seen.silent
    assert complaint == (
        f"run 'busy': its supervisor (process {supervisor_of(client.run.folder.parents[1])}) "
        "answers what is not understood here (KeyError: 'folder'): it is of another version of "
        "pytest-carthage; try: pytest-carthage of the environment in which that was started"
    )


def test_join_of_a_run_that_does_not_answer_is_an_error_and_others_can_be_joined(
    client: Client,
    join: Join,
    stopped: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pid = stopped()
    with monkeypatch.context() as patch:
        patch.setattr(Run._ask, "__defaults__", (0.2,))
        with pytest.raises(
            StateError,
            match=rf"run 'busy': its supervisor \(process {pid}\) has not answered 'hello' for "
            r"0\.2 s; log: .*; try: end that process, then pytest-carthage gc",
        ):
            join("busy")
    assert join("other").name == "other"


def test_request_to_a_supervisor_that_does_not_answer_ends(
    client: Client, stopped: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.begin("busy-a")
    stopped()
    monkeypatch.setattr(Run._ask, "__defaults__", (0.2,))
    with pytest.raises(StateError, match=r"has not answered 'intent' for 0\.2 s"):
        client.intend("web", "busy-a")
    monkeypatch.setattr(runs, "_DESTROY_S", 0.2)
    with pytest.raises(StateError, match=r"has not answered 'destroy' for 0\.2 s"):
        client.destroy("busy-a")


def test_supervisor_that_was_killed_is_told_of_by_requests(client: Client, huts: Huts) -> None:
    client.begin("busy-a")
    os.kill(supervisor_of(huts.state), signal.SIGKILL)
    with pytest.raises(FabricError, match="supervisor of run 'busy': it is gone"):
        client.destroy("busy-a")
    huts.await_end_of_supervisor()
    assert collect_garbage().removed == ["environment busy-a"]
    assert_nothing_left(huts.state)
