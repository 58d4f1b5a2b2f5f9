"""Commands of a fake machine: what is asked, and the functions that answer."""

from __future__ import annotations

import asyncio
import inspect
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

from pytest_carthage.errors import FabricError
from pytest_carthage.model.mistakes.culprit import Authored

if TYPE_CHECKING:
    from pytest_carthage.testing.machine import FakeMachine

__all__ = ["Answer", "Answers", "Call", "Output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a command prints, and how it ends."""

    stdout: str | bytes = ""
    stderr: str | bytes = ""
    #: exit status; the negative signal number where a signal ends it
    status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A command that a fake machine was asked to run."""

    machine: FakeMachine = field(repr=False, compare=False)
    argv: tuple[str, ...]
    #: name of the user who runs it
    user: str = "root"
    #: None: the user's home
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    input: bytes = b""

    @property
    def text(self) -> str:
        """The command as one would type it: of ``/bin/sh -c TEXT``, the text."""
        if len(self.argv) == 3 and self.argv[0] in ("/bin/sh", "sh") and self.argv[1] == "-c":
            return self.argv[2]
        return shlex.join(self.argv)


#: what a command gives: text that it prints, its exit status, both, or a function of the call
#: that returns one of these, or None where it does not answer this one
Given: TypeAlias = "str | bytes | int | Output | None"
Answer: TypeAlias = "Given | Callable[[Call], Given | Awaitable[Given]]"


class Answers:
    """What commands give, by a pattern of their text (fnmatch(3)); the last that fits answers.

    A function is called in a thread, or awaited on the environment's event loop where it is
    async: there it is cancelled when the command is killed.
    """

    def __init__(self, answers: Mapping[str, Answer] | None = None) -> None:
        self._answers: list[tuple[str, Answer]] = []
        for pattern, answer in (answers or {}).items():
            self.add(pattern, answer)

    def add(self, pattern: str, answer: Answer) -> None:
        """Have commands that fit a pattern give this."""
        self._answers.append((pattern, answer))

    async def to(self, call: Call) -> Output | None:
        """What a command gives; None: nothing here answers it."""
        for pattern, answer in reversed(self._answers):
            if not fnmatchcase(call.text, pattern):
                continue
            with Authored(
                f"fake machine {call.machine.name!r}: the answer to {call.text!r}",
                FabricError,
                answer,
            ):
                output = await _given(answer, call)
            if output is not None:
                return output
        return None


async def _given(answer: Answer, call: Call) -> Output | None:
    given: object = answer
    if callable(answer):
        if inspect.iscoroutinefunction(answer):
            given = await answer(call)
        else:
            given = await asyncio.to_thread(answer, call)
            if inspect.isawaitable(given):
                given = await given
    if isinstance(given, bool):
        given = 0 if given else 1
    match given:
        case None | Output():
            return given
        case int():
            return Output(status=given)
        case str() | bytes():
            return Output(stdout=given)
    raise TypeError(
        f"the answer to {call.text!r} is {given!r}; "
        "try: text, a status, an Output, or None for what it does not answer"
    )
