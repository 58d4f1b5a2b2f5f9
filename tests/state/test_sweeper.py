"""Destroying through providers: all at once, again while it helps, each thing told of."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_carthage.errors import RestoreError
from pytest_carthage.provider import Identity, Provider
from pytest_carthage.state import sweeper
from pytest_carthage.state.entries import as_entry
from pytest_carthage.state.sweeper import destroy_all
from pytest_carthage.state.sweeping import Failed, Sweep, search_path
from tests.state.huts import Huts
from tests.support import hut


def identity(name: str, kind: str = "cloud") -> Identity:
    return Identity(kind=kind, run="r", environment="r-shop", name=name, outside=True)


class Cloud:
    """Things of which some go only after others."""

    def __init__(self, *, after: dict[str, str] | None = None) -> None:
        self.after = after or {}
        self.gone: list[str] = []
        self.asked: list[str] = []

    async def destroy(self, identity: Identity) -> None:
        self.asked.append(identity.name)
        await asyncio.sleep(0)
        if (earlier := self.after.get(identity.name)) is not None and earlier not in self.gone:
            raise RuntimeError(f"{identity.name} is used by {earlier}")
        self.gone.append(identity.name)


def provider(value: object) -> Callable[[str], Provider]:
    return lambda kind: cast("Provider", value)


def test_all_are_destroyed_at_once() -> None:
    together = asyncio.Barrier(3)

    class Slow:
        async def destroy(self, identity: Identity) -> None:
            async with asyncio.timeout(5):
                await together.wait()

    left = asyncio.run(destroy_all([identity(name) for name in "abc"], provider(Slow())))
    assert left == {}


def test_what_others_use_is_destroyed_after_them() -> None:
    cloud = Cloud(after={"network": "subnet", "subnet": "web"})
    things = [identity(name) for name in ("network", "subnet", "web")]
    assert asyncio.run(destroy_all(things, provider(cloud))) == {}
    assert cloud.gone == ["web", "subnet", "network"]


def test_what_is_left_is_told_with_its_reason_and_the_rest_goes() -> None:
    cloud = Cloud(after={"stuck": "never"})
    told: list[tuple[str, str | None]] = []

    def report(identity: Identity, error: Exception | None) -> None:
        told.append((identity.name, None if error is None else str(error)))

    things = [identity(name) for name in ("a", "stuck", "b")]
    left = asyncio.run(destroy_all(things, provider(cloud), report))
    assert {one.name: str(error) for one, error in left.items()} == {
        "stuck": "stuck is used by never"
    }
    assert told == [("a", None), ("b", None), ("stuck", "stuck is used by never")]
    assert cloud.asked.count("stuck") == 2  # once more after the others had gone


def test_what_is_given_back_and_not_as_it_was_is_told_once_and_not_tried_again() -> None:
    class Rack(Cloud):
        async def destroy(self, identity: Identity) -> None:
            await super().destroy(identity)
            if identity.name == "spoiled":
                raise RestoreError("no snapshot")

    cloud = Rack(after={"network": "spoiled"})
    told: list[str] = []
    things = [identity(name) for name in ("network", "spoiled")]
    left = asyncio.run(
        destroy_all(things, provider(cloud), lambda one, error: told.append(one.name))
    )
    assert {one.name: str(error) for one, error in left.items()} == {"spoiled": "no snapshot"}
    assert told == ["spoiled", "network"]
    assert cloud.asked.count("spoiled") == 1


def test_provider_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "_LIMIT_S", 0.05)

    class Never:
        async def destroy(self, identity: Identity) -> None:
            await asyncio.sleep(60)

    left = asyncio.run(destroy_all([identity("a")], provider(Never())))
    assert [str(error) for error in left.values()] == ["no end after 0.05 s"]


def test_provider_that_cannot_be_made_is_the_reason() -> None:
    def broken(kind: str) -> Provider:
        raise ImportError("no boto")

    left = asyncio.run(destroy_all([identity("a")], broken))
    assert [str(error) for error in left.values()] == ["no boto"]


# as a process


def ask(**question: Any) -> tuple[list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_carthage.state.sweeper"],
        input=json.dumps({"ask": "", "kinds": None, "identities": [], **question}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_process_answers_for_each_thing_and_logs_what_failed(huts: Huts) -> None:
    there = identity("a", "hut")
    hut.exist(there)
    moon = identity("b", "moon")
    rows, log = ask(identities=[as_entry(there), as_entry(moon)])
    errors = {row["identity"]["name"]: row["error"] for row in rows}
    assert errors["a"] is None
    assert errors["b"].startswith("LookupError: no provider of kind 'moon' is installed; ")
    assert log.startswith("moon r-shop/b: LookupError: ")
    assert list(hut.records()) == []


def test_process_whose_provider_prints_answers_all_the_same(huts: Huts, tmp_path: Path) -> None:
    text = (tmp_path / "site/hut.py").read_text()
    noisy = text.replace("    async def destroy(", "    print('{noise')\n\n    async def destroy(")
    (tmp_path / "site/hut.py").write_text(noisy)
    rows, log = ask(identities=[as_entry(identity("a", "hut"))])
    assert [row["error"] for row in rows] == [None]
    assert "{noise" in log


def test_process_refuses_leftovers_of_another_run(huts: Huts, tmp_path: Path) -> None:
    text = (tmp_path / "site/hut.py").read_text()
    careless = text.replace('if record["run"] == run', "").replace(
        "kind=self.kind, run=run,", 'kind=self.kind, run=record["run"],'
    )
    assert careless != text
    (tmp_path / "site/hut.py").write_text(careless)
    hut.exist(identity("a", "hut"))
    rows, _ = ask(ask="mine", kinds=["hut"])
    (row,) = rows
    assert row["error"].startswith("ValueError: asked for leftovers of run mine, it told of ")
    assert len(list(hut.records())) == 1


def test_sweep_takes_what_was_not_answered_for_as_left(huts: Huts, tmp_path: Path) -> None:
    first, second = as_entry(identity("a", "hut")), as_entry(identity("b", "hut"))
    sweep = Sweep([first, second], tmp_path / "log")
    answer = json.dumps({"identity": first, "error": None}).encode() + b'\n{"identity":{"ki'
    assert sweep._left(answer, "cut off") == [Failed(second, "cut off")]


def test_sweep_that_cannot_be_begun_is_told_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    thing = as_entry(identity("a"))
    ((left, error),) = Sweep([thing], tmp_path / "log").run()
    assert left == thing
    assert error.startswith("no sweep: [Errno 2] No such file or directory")


def test_search_path_has_this_package_and_no_relative_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/no/such/folder"])
    package = Path(sweeper.__file__).parents[2]
    assert search_path().split(":") == [str(tmp_path), str(package)]
