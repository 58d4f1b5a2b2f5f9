"""Tasks: what can be one, what it is called, and what the steps of an image are."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import File, Image, LayoutError, Role, filesystem_task, machine_task
from pytest_carthage.model.task import Step, Task, task_of

HERE = Path(__file__).parent


def write_the_file(fs: Any) -> str:
    return f"wrote with {fs}"


def test_task_is_called_after_its_function_unless_it_has_a_title() -> None:
    assert filesystem_task(write_the_file).title == "write the file"
    assert filesystem_task()(write_the_file).title == "write the file"
    assert filesystem_task("")(write_the_file).title == "write the file"
    assert machine_task("start it")(write_the_file).title == "start it"


@pytest.mark.parametrize(
    ("make", "kind"), [(filesystem_task, "filesystem"), (machine_task, "machine")]
)
def test_task_is_of_the_kind_of_its_decorator_and_still_a_function(make: Any, kind: str) -> None:
    task = make(write_the_file)
    assert isinstance(task, Task)
    assert (task.kind, task.network, task.timeout_s, task.is_async) == (kind, False, None, False)
    assert task("x") == "wrote with x"
    assert task.place.file == __file__
    assert task.place.line == write_the_file.__code__.co_firstlineno
    assert task.anchor == HERE
    assert task_of(task) is task
    assert task_of(write_the_file) is None


def test_task_keeps_what_its_decorator_is_given() -> None:
    task = filesystem_task("fetch", network=True, timeout_s=5)(write_the_file)
    assert (task.title, task.network, task.timeout_s) == ("fetch", True, 5)
    assert machine_task("go", timeout_s=0.5)(write_the_file).timeout_s == 0.5


def test_task_is_async_where_what_it_wraps_is() -> None:
    async def go(machine: Any) -> None: ...

    @wraps(go)
    def wrapped(machine: Any) -> Any:
        return go(machine)

    assert machine_task(go).is_async
    assert machine_task(wrapped).is_async
    assert not machine_task(lambda machine: None).is_async


def test_task_of_a_role_is_a_method_of_it() -> None:
    class Web(Role):
        @filesystem_task("write")
        def write(self, fs: Any) -> tuple[object, Any]:
            return self, fs

    web = Web()
    assert web.write("fs") == (web, "fs")
    assert isinstance(Web.write, Task)


def yields(fs: Any) -> Any:
    yield fs


async def yields_too(fs: Any) -> Any:
    yield fs


@pytest.mark.parametrize("kind", ["filesystem", "machine"])
@pytest.mark.parametrize(
    ("function", "arguments", "who", "what", "remedy"),
    [
        (
            yields,
            {},
            "yields",
            "it yields, but a task has nothing to undo",
            "return instead of yield",
        ),
        (
            yields_too,
            {},
            "yields_too",
            "it yields, but a task has nothing to undo",
            "return instead of yield",
        ),
        (Role, {}, "Role", "it is not a function", "@{kind}_task above a def"),
        (7, {}, "7", "it is not a function", "@{kind}_task above a def"),
        *(
            (
                write_the_file,
                {"timeout_s": limit},
                "write_the_file",
                f"timeout_s {limit!r} is not a positive number",
                "@{kind}_task(timeout_s=600)",
            )
            for limit in (0, -1, "60", True, float("inf"), float("nan"))
        ),
    ],
)
def test_what_cannot_be_a_task_is_refused_where_it_is_written(
    kind: str, function: Any, arguments: dict[str, Any], who: str, what: str, remedy: str
) -> None:
    decorate: Callable[..., Any] = filesystem_task if kind == "filesystem" else machine_task
    with pytest.raises(LayoutError) as caught:
        decorate("title", **arguments)(function)
    message = str(caught.value)
    assert message.startswith(f"task {who!r}: {what}; declared at {__file__}:")
    assert message.endswith(f"; try: {remedy.format(kind=kind)}")


# steps


def step_of(*contents: object) -> Step:
    (step,) = Image.debian("bookworm").with_(*contents).steps
    return step


def test_steps_have_titles_for_people() -> None:
    assert step_of(filesystem_task("greet")(write_the_file)).title == "greet"
    assert step_of(File("etc/motd", "/etc/motd")).title == "copy motd to /etc/motd"
    (step,) = Image.debian("bookworm").with_packages("b", "a").steps
    assert (step.kind, step.title, step.packages) == ("packages", "install a, b", ("a", "b"))


def test_step_of_a_role_knows_where_the_image_got_it_and_where_the_role_is() -> None:
    class Web(Role):
        @filesystem_task("write")
        def write(self, fs: Any) -> None: ...

    step = step_of(Web())
    assert (step.kind, type(step.role), step.origin) == ("task", Web, HERE)
    assert step.anchor == HERE
    assert step_of(File("x", "/x")).origin is None


@pytest.mark.parametrize(
    ("file", "other"),
    [
        (File("a", "/a"), File("b", "/a")),
        (File("a", "/a"), File("a", "/b")),
        (File("a", "/a"), File("a", "/a", mode=0o600)),
        (File("a", "/a", mode=0o644), File("a", "/a", mode=0o600)),
        (File("a", "/a"), File("a", "/a", user="app")),
    ],
)
def test_files_that_differ_are_different_steps(file: File, other: File) -> None:
    assert step_of(file).key != step_of(other).key
    assert file != other


def test_file_written_elsewhere_with_the_same_meaning_is_the_same() -> None:
    file, other = File("a", "/a"), File(HERE / "a", "/a")
    assert file == other
    assert step_of(file).key == step_of(other).key


@pytest.mark.parametrize(
    "other",
    [
        filesystem_task("other")(write_the_file),
        filesystem_task("greet", network=True)(write_the_file),
        filesystem_task("greet")(lambda fs: None),
    ],
)
def test_tasks_that_differ_are_different_steps(other: Task) -> None:
    assert step_of(filesystem_task("greet")(write_the_file)).key != step_of(other).key


def test_time_limit_of_a_task_is_no_part_of_what_it_does() -> None:
    quick, slow = (filesystem_task("greet", timeout_s=limit)(write_the_file) for limit in (1, None))
    assert step_of(quick).key == step_of(slow).key


def test_parameter_without_a_key_is_refused_with_the_task_that_has_it() -> None:
    class Web(Role):
        def __init__(self) -> None:
            self.thing = object()

        @filesystem_task("write")
        def write(self, fs: Any) -> None: ...

    (step,) = Web().steps
    with pytest.raises(LayoutError) as caught:
        _ = step.key
    message = str(caught.value)
    assert message.startswith("an image: of task 'write': <object object at ")
    assert "(object) cannot be part of a key; declared at " in message
    assert message.endswith("; try: text, numbers, paths, tuples and frozen dataclasses")
