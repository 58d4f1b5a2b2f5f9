"""Tasks: what a role does to a file system, or to a machine that runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

from pytest_carthage.model.file import File
from pytest_carthage.model.keys.key import Anchor, digest
from pytest_carthage.model.keys.references import function_content
from pytest_carthage.model.mistakes.declaring import declaring
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.parameters import is_time_limit

__all__ = ["Step", "Task", "filesystem_task", "machine_task", "task_of"]

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """A function with a title that is done once: to a file system, or to a machine that runs.

    As an attribute of a role it is a method of it.
    """

    #: how content keys know one, which is asked for beside all else that code refers to
    is_task: ClassVar = True
    kind: Literal["filesystem", "machine"]
    title: str
    function: Function
    #: whether it has the host's network while an image is built
    network: bool = False
    timeout_s: float | None = None
    place: Place

    @property
    def anchor(self) -> Path:
        """The folder that relative paths in it are of: where its file is."""
        return Path(self.place.file).absolute().parent

    @property
    def is_async(self) -> bool:
        """Whether it is to be awaited."""
        return inspect.iscoroutinefunction(inspect.unwrap(self.function))

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Do it, as any function."""
        return self.function(*arguments, **more)

    def __get__(self, instance: object, owner: type) -> Any:
        return self if instance is None else functools.partial(self.function, instance)

    def content(self, role: Any, anchor: Anchor = None) -> list[Any]:
        """What it depends on beside the files that it reads, as JSON can hold it.

        :param anchor: paths of the role's parameters that are near it are told from there.
        :raises Unkeyed: a parameter of the role has no key.
        """
        references = function_content(self.function, role)
        return [
            self.title,
            self.network,
            references,
            [] if role is None else role.parameters_near(anchor),
        ]


@overload
def filesystem_task(title: Function, /) -> Task: ...


@overload
def filesystem_task(
    title: str = "", /, *, network: bool = False, timeout_s: float | None = None
) -> Callable[[Function], Task]: ...


@declaring("task")
def filesystem_task(
    title: str | Function = "", /, *, network: bool = False, timeout_s: float | None = None
) -> Any:
    """Make a function or method (async or not) a task that needs a file system only.

    It gets a :class:`~pytest_carthage.work.files.filesystem.Filesystem`, or the same as awaitables
    where it is async. Each is one layer of an image; nothing is booted for it.

    :param title: what people read; by default the function's name.
    :param network: while an image is built, it has the host's network, and not just loopback.
    :param timeout_s: seconds that it may take; None: as long as it takes.
    :raises LayoutError: the function cannot be a task.
    """
    return _decorate("filesystem", title, network, timeout_s)


@overload
def machine_task(title: Function, /) -> Task: ...


@overload
def machine_task(
    title: str = "", /, *, timeout_s: float | None = None
) -> Callable[[Function], Task]: ...


@declaring("task")
def machine_task(title: str | Function = "", /, *, timeout_s: float | None = None) -> Any:
    """Make a function or method (async or not) a task that needs a machine that runs.

    It gets the machine's handle, or its ``aio`` where it is async, before the machine's
    ``wait_for`` conditions are waited for.

    :param title: what people read; by default the function's name.
    :param timeout_s: seconds that it may take; None: as long as it takes.
    :raises LayoutError: the function cannot be a task.
    """
    return _decorate("machine", title, False, timeout_s)


def _decorate(
    kind: Literal["filesystem", "machine"],
    title: str | Function,
    network: bool,
    timeout_s: float | None,
) -> Any:
    place = Place.of_author()

    def make(function: Function) -> Task:
        named = getattr(function, "__name__", repr(function))
        if not inspect.isroutine(function):
            raise Mistake(
                what="it is not a function",
                remedy=f"@{kind}_task above a def",
                place=place,
            ).error(f"task {named!r}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise Mistake(
                what="it yields, but a task has nothing to undo",
                remedy="return instead of yield",
                place=place,
            ).error(f"task {named!r}")
        if not is_time_limit(timeout_s):
            raise Mistake(
                what=f"timeout_s {timeout_s!r} is not a positive number",
                remedy=f"@{kind}_task(timeout_s=600)",
                place=place,
            ).error(f"task {named!r}")
        code = inspect.unwrap(function).__code__
        return Task(
            kind=kind,
            title=title if isinstance(title, str) and title else named.replace("_", " "),
            function=function,
            network=network,
            timeout_s=timeout_s,
            place=Place(file=code.co_filename, line=code.co_firstlineno),
        )

    return make if isinstance(title, str) else make(title)


def task_of(value: object) -> Task | None:
    """The task that a value is; None: it is none."""
    return value if isinstance(value, Task) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One layer of an image, to be made."""

    kind: Literal["packages", "task", "file"]
    title: str
    role: Any = None
    task: Task | None = None
    packages: tuple[str, ...] = ()
    file: File | None = None
    place: Place
    #: folder of the file in which an image is given it
    origin: Path | None = None

    @classmethod
    def of_packages(cls, names: tuple[str, ...], place: Place, role: Any = None) -> Step:
        """Packages of the distribution."""
        title = f"install {', '.join(map(str, names))}"
        return cls(kind="packages", title=title, packages=names, place=place, role=role)

    @classmethod
    def of_task(cls, task: Task, role: Any) -> Step:
        """A filesystem task."""
        return cls(kind="task", title=task.title, task=task, role=role, place=task.place)

    @classmethod
    def of_file(cls, file: File) -> Step:
        """A file of the host."""
        title = f"copy {file.source.name} to {file.target}"
        return cls(kind="file", title=title, file=file, place=file.place)

    @property
    def anchor(self) -> Path:
        """The folder that relative paths in it are of."""
        return Path(self.place.file).absolute().parent

    @property
    def key(self) -> str:
        """Key of what is declared, without the files that it reads (hexadecimal).

        :raises LayoutError: a parameter has no key.
        """
        from pytest_carthage.model.keys.key import Unkeyed

        anchors = (self.anchor, *([self.origin] if self.origin is not None else []))
        if self.file is not None:
            file = self.file
            parts: list[Any] = ["file", file.source, file.target, file.mode, file.user]
        elif self.task is not None:
            try:
                parts = ["task", *self.task.content(self.role, anchors)]
            except Unkeyed as error:
                raise Mistake(
                    what=f"of task {self.title!r}: {error}",
                    remedy="text, numbers, paths, tuples and frozen dataclasses",
                    place=self.place,
                ).error("an image") from None
        else:
            parts = ["packages", *self.packages]
        return digest(parts, anchors)
