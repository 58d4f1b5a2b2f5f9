"""FRR's own shell, and what it tells as values."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Protocol, overload

from pytest_carthage.errors import TaskError
from pytest_carthage.handles.result import Result

__all__ = ["vtysh"]


class Waits(Protocol):
    """A live machine, for callers that wait."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def run(self, command: Sequence[str], /, *, check: bool = True) -> Result:
        """Run a command and wait for its end."""
        ...


class Awaited(Protocol):
    """A live machine, for coroutines."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def run(self, command: Sequence[str], /, *, check: bool = True) -> Awaitable[Result]:
        """Run a command and wait for its end."""
        ...


@overload
def vtysh(machine: Waits, *commands: str) -> Any: ...
@overload
def vtysh(machine: Awaited, *commands: str) -> Coroutine[Any, Any, Any]: ...
def vtysh(machine: Any, *commands: str) -> Any:
    """What FRR's shell answers in a machine, to commands of one session, as ``vtysh -c`` does.

    ``vtysh(shop.r1, "show ip route json")`` gives dictionaries and lists; a command that does not
    end with ``json`` gives its text. Of an asynchronous handle it gives a coroutine.

    :raises TaskError: FRR does not know a command, or refuses it, or the daemon does not run.
    """
    if not commands:
        raise ValueError('vtysh: no command; try: vtysh(machine, "show ip route json")')
    argv = ["vtysh", *(part for command in commands for part in ("-c", command))]
    answer = machine.run(argv, check=False)
    if inspect.isawaitable(answer):
        return _later(machine.name, commands, answer)
    return _parsed(machine.name, commands, answer)


async def _later(name: str, commands: Sequence[str], answer: Awaitable[Result]) -> Any:
    return _parsed(name, commands, await answer)


def _parsed(name: str, commands: Sequence[str], answer: Result) -> Any:
    said = answer.stdout.strip()
    if answer.status:
        words = " ".join((said or answer.stderr.strip() or "nothing").split())
        raise _refused(name, commands, words)
    if commands[-1].split()[-1:] != ["json"]:
        return answer.stdout
    try:
        return json.loads(said or "{}")
    except json.JSONDecodeError as error:
        raise _refused(name, commands, f"no JSON: {said[:200]}") from error


def _refused(name: str, commands: Sequence[str], words: str) -> TaskError:
    typed = " / ".join(commands)
    return TaskError(
        f"machine {name!r}: vtysh {typed!r}: it says {words!r}; try: pytest-carthage shell "
        f"{name}, and vtysh there"
    )
