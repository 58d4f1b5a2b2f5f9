"""What relative paths and variables mean to a task: its own, whoever works there meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from pytest_carthage import Role, filesystem_task
from pytest_carthage.model.task import Task
from pytest_carthage.portal import Portal
from pytest_carthage.work.files.filesystem import AsyncFilesystem


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop(Role):
    name: str = "corner"


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture
def files(portal: Portal) -> AsyncFilesystem:
    return AsyncFilesystem("web", who="machine 'web'", portal=portal)


def _task(folder: Path, function: Any) -> Task:
    """A task of a function, as if it stood in a file of that folder."""
    folder.mkdir(exist_ok=True)
    (folder / "own.txt").write_text(folder.name)
    code: CodeType = function.__code__
    function.__code__ = code.replace(co_filename=str(folder / "roles.py"))
    task: Task = filesystem_task(function)
    return task


def test_tasks_at_the_same_time_have_folders_and_variables_of_their_own(
    portal: Portal, files: AsyncFilesystem, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}

    async def go() -> None:
        both = asyncio.Barrier(2)

        async def left(role: Role, fs: AsyncFilesystem) -> None:
            await both.wait()
            seen["left"] = (fs.source("own.txt"), fs.variables["name"])
            await both.wait()

        async def right(role: Role, fs: AsyncFilesystem) -> None:
            await both.wait()
            seen["right"] = (fs.source("own.txt"), fs.variables["name"])
            await both.wait()
            await asyncio.sleep(0)
            seen["late"] = fs.source("own.txt")  # the other one has ended

        await asyncio.gather(
            files.perform(_task(tmp_path / "a", left), Shop(name="left")),
            files.perform(_task(tmp_path / "b", right), Shop(name="right")),
        )

    portal.call(go)
    assert seen == {
        "left": (tmp_path / "a/own.txt", "left"),
        "right": (tmp_path / "b/own.txt", "right"),
        "late": tmp_path / "b/own.txt",
    }


def test_synchronous_tasks_at_the_same_time_have_their_own_too(
    portal: Portal, files: AsyncFilesystem, tmp_path: Path
) -> None:
    both = threading.Barrier(2, timeout=10)
    seen: dict[str, str] = {}

    def left(fs: Any) -> None:
        both.wait()
        seen["left"] = fs.source("own.txt").read_text()

    def right(fs: Any) -> None:
        both.wait()
        seen["right"] = fs.source("own.txt").read_text()

    async def go() -> None:
        await asyncio.gather(
            files.perform(_task(tmp_path / "a", left), None),
            files.perform(_task(tmp_path / "b", right), None),
        )

    portal.call(go)
    assert seen == {"left": "a", "right": "b"}


def test_handle_beside_a_task_knows_nothing_of_its_folder(
    portal: Portal, files: AsyncFilesystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_text("here")

    async def task(fs: AsyncFilesystem) -> None:
        assert fs.source("own.txt").read_text() == "a"
        assert files.source("own.txt").read_text() == "here"
        assert files.variables == {}

    portal.call(lambda: files.perform(_task(tmp_path / "a", task), None))


def test_view_of_a_task_is_the_same_file_system(
    portal: Portal, files: AsyncFilesystem, tmp_path: Path
) -> None:
    seen: list[AsyncFilesystem] = []

    async def task(fs: AsyncFilesystem) -> None:
        seen.append(fs)
        fs.offline = True

    portal.call(lambda: files.perform(_task(tmp_path / "a", task), None))
    (view,) = seen
    assert files.offline
    files.mirror = "http://mirror.example"
    assert view.mirror == "http://mirror.example"
    assert view == files
    assert {view: 1}[files] == 1
    assert view.commands is files.commands


def test_task_that_fails_leaves_no_folder_behind(
    portal: Portal, files: AsyncFilesystem, tmp_path: Path
) -> None:
    async def task(fs: AsyncFilesystem) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        portal.call(lambda: files.perform(_task(tmp_path / "a", task), None))
    with pytest.raises(FileNotFoundError, match="machine 'web': no such file on the host"):
        files.source("own.txt")
