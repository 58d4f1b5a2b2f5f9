"""Commands and tasks: who failed, at what, after how long, and what it printed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_carthage import (
    CommandError,
    Layout,
    Machine,
    Network,
    Role,
    TaskError,
    TimeLimitError,
    filesystem_task,
    testing,
)
from pytest_carthage.errors import FabricError
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.model.task import Task
from pytest_carthage.portal import Portal
from pytest_carthage.testing.commands import Call, Output
from pytest_carthage.work.files.filesystem import AsyncFilesystem


class Lab(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})


def _echo(call: Call) -> Output:
    return Output(stdout=f"{call.text}|{call.user}|{call.cwd}|{call.input!r}")


ANSWERS: dict[str, Any] = {
    "fail": Output(stdout="out\n\n", stderr="first\nlast\n", status=3),
    "silent": Output(status=5),
    "many": Output(stdout="".join(f"line {n}\n" for n in range(60)), status=1),
    "long": Output(stdout="x" * 2000, status=1),
    "no text": Output(status=1, stdout=b"\xff", stderr=b"\xfe"),
    "bytes": Output(stdout=b"\xff\xfe text"),
    "echo *": _echo,
}


@pytest.fixture(scope="module")
def web() -> Iterator[MachineHandle]:
    with testing.live(Lab, answers=ANSWERS) as lab:
        yield lab.web


# commands


def test_failed_command_is_told_with_who_what_and_how_it_ended(web: MachineHandle) -> None:
    with pytest.raises(CommandError) as caught:
        web.run("fail")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("machine 'web' of layout 'Lab': 'fail' exited with status 3 after ")
    assert lines[1:] == ["  out", "  first", "  last"]
    assert caught.value.result.status == 3
    with pytest.raises(CommandError, match=r"'fail' as www exited with status 3"):
        web.run("fail", user="www")


def test_failed_command_is_a_result_for_who_does_not_check(web: MachineHandle) -> None:
    result = web.run("fail", check=False)
    assert (result.ok, result.status, result.stdout) == (False, 3, "out\n\n")
    assert web.commands[-1].status == 3


def test_command_that_printed_nothing_says_so(web: MachineHandle) -> None:
    with pytest.raises(CommandError, match=r"it printed:\n  \(nothing\)$"):
        web.run("silent")


def test_command_that_printed_much_is_told_by_its_last_lines(web: MachineHandle) -> None:
    with pytest.raises(CommandError) as caught:
        web.run("many")
    assert str(caught.value).splitlines()[1:] == [f"  line {n}" for n in range(40, 60)]
    with pytest.raises(CommandError) as caught:
        web.run("long")
    assert str(caught.value).splitlines()[1] == f"  {'x' * 500} ..."


def test_output_that_is_no_text_keeps_its_bytes(web: MachineHandle) -> None:
    result = web.run("bytes")
    assert result.stdout == "\udcff\udcfe text"
    assert result.stdout_bytes == b"\xff\xfe text"


def test_output_is_text_in_the_encoding_of_the_locale(web: MachineHandle) -> None:
    result = web.run("bytes", env={"LANG": "de_DE.ISO-8859-1"})
    assert (result.stdout, result.encoding) == ("ÿþ text", "iso8859-1")
    assert result.stdout_bytes == b"\xff\xfe text"


def test_failed_command_that_printed_no_text_is_told_in_text(web: MachineHandle) -> None:
    with pytest.raises(CommandError) as caught:
        web.run("no text")
    assert str(caught.value).endswith(":\n  \\udcff\n  \\udcfe")


def test_command_has_its_user_folder_and_input(web: MachineHandle) -> None:
    result = web.run(["echo", "a b"], user="www", cwd="/srv", input="text")
    assert result.command == ("echo", "a b")
    assert "|www|/srv|b'text'" in result.stdout


def test_sequence_without_a_word_is_no_command(web: MachineHandle) -> None:
    with pytest.raises(ValueError, match="machine 'web' of layout 'Lab': an empty sequence is no"):
        web.run([])


# tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop(Role):
    port: int = 80


@pytest.fixture
def files() -> Iterator[AsyncFilesystem]:
    portal = Portal()
    yield AsyncFilesystem("web", who="machine 'web'", portal=portal)
    portal.close()


def perform(files: AsyncFilesystem, task: Any, role: Role | None = None) -> None:
    assert isinstance(task, Task)
    files.portal.call(lambda: files.perform(task, role))


def test_task_has_its_roles_parameters_and_only_while_it_runs(files: AsyncFilesystem) -> None:
    ports: list[Any] = []

    @filesystem_task("look")
    async def look(role: Shop, fs: AsyncFilesystem) -> None:
        ports.append((role.port, fs.variables["port"], fs == files))

    perform(files, look, Shop(port=81))
    assert ports == [(81, 81, True)]
    assert dict(files.variables) == {}


def test_task_over_its_time_is_told_by_its_title(files: AsyncFilesystem) -> None:
    ended: list[str] = []

    @filesystem_task("wait for ever", timeout_s=0.05)
    async def wait(fs: AsyncFilesystem) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    message = r"^machine 'web': task 'wait for ever' did not end in 0\.05 s$"
    with pytest.raises(TimeLimitError, match=message):
        perform(files, wait)
    assert ended == ["cancelled"]


def test_error_of_a_task_is_its_own(files: AsyncFilesystem) -> None:
    @filesystem_task("fail")
    def fail(fs: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        perform(files, fail)


def test_end_of_an_iteration_does_not_hang_the_loop(files: AsyncFilesystem) -> None:
    @filesystem_task("next")
    def following(fs: Any) -> None:
        next(iter(()))

    with pytest.raises(RuntimeError, match=r"^StopIteration$"):
        perform(files, following)


# what it lacks


def test_filesystem_that_is_closed_says_so(files: AsyncFilesystem) -> None:
    with pytest.raises(FabricError, match=r"^machine 'web': it is closed$"):
        files.portal.call(lambda: files.run("true"))


def test_packages_that_nobody_keeps_cannot_be_fetched(files: AsyncFilesystem) -> None:
    with pytest.raises(TaskError, match="packages cannot be fetched for it: nobody keeps them"):
        files.portal.call(lambda: files.install("nginx"))


def test_ansible_that_does_not_reach_it_says_so(files: AsyncFilesystem) -> None:
    with pytest.raises(TaskError, match=r"^machine 'web': Ansible does not reach it$"):
        files.portal.call(files.ansible_environment)


def test_views_are_equal_and_one_key(files: AsyncFilesystem) -> None:
    view = files.within(files.scope)
    assert view == files
    assert len({view, files}) == 1
    assert view != AsyncFilesystem("web", who="machine 'web'", portal=files.portal)
    assert repr(view) == "<machine 'web'>"
    view.offline = True
    assert files.offline  # all but the scope is common to both
