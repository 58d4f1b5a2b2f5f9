"""What can go wrong, as one tree.

::

    CarthageError
    ├── LayoutError        a declaration is wrong; found before anything is built
    ├── CallError          a call has arguments that do not exist, or misses some
    ├── HostError          this host lacks something that the plan needs
    ├── BuildError         an image could not be built
    ├── LockError          a lock is missing or damaged, or what is built would differ from it
    ├── BundleError        a bundle could not be written or read
    ├── TaskError          a task could not be done: a package, a template, a unit
    ├── CreationError      a machine could not be created, or never became ready
    ├── BlockedError       something waited for another thing that failed
    ├── CommandError       a command in a machine exited with a status other than 0
    ├── TimeLimitError     a command, a stage or a wait did not end in time, or a wait is in vain
    ├── OutputLimitError   a command printed more than it may
    ├── AnsibleError       a play failed, or could not be started
    │   └── AnsibleModuleError  a module that was run by itself failed somewhere
    ├── FaultError         a fault cannot begin now: another one is in force
    ├── GateError          a gate could not be opened
    ├── UnsupportedError   a machine was asked for what its target cannot do
    ├── ForkedError        a handle was used in a process that was forked from the test's
    ├── FabricError        the fabric or a machine's agent refused a request
    │   └── RestoreError   a host was given back, and not as it was: a step of on_return= failed
    └── StateError         a run or an environment on disk: missing, taken, damaged

A message says who, what was tried, what was seen and what to do.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.handles.ansible_module import ModuleResults
    from pytest_carthage.handles.playbook import PlaybookResult
    from pytest_carthage.handles.result import Result

__all__ = [
    "AnsibleError",
    "AnsibleModuleError",
    "BlockedError",
    "BuildError",
    "BundleError",
    "CallError",
    "CarthageError",
    "CommandError",
    "CreationError",
    "FabricError",
    "FaultError",
    "ForkedError",
    "GateError",
    "HostError",
    "LayoutError",
    "LockError",
    "OutputLimitError",
    "Problem",
    "RestoreError",
    "StateError",
    "TaskError",
    "TimeLimitError",
    "UnsupportedError",
    "brief",
    "first_line",
    "printable",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that a host lacks, with its remedy."""

    #: the target or tool that needs it, as in ``"capture"``
    who: str
    #: what was looked for and what was seen instead
    what: str
    #: what a person can do about it
    remedy: str
    #: Debian packages that would cure it (``doctor --fix`` installs them)
    packages: tuple[str, ...] = ()
    #: a command of root's that would cure it (``doctor --fix`` runs it)
    command: tuple[str, ...] = ()
    #: settings of the kernel that would cure it, by name as in sysctl(8); ``doctor --fix`` raises
    #: them
    settings: Mapping[str, int] = field(default_factory=dict, hash=False)
    #: the extra of this package that would cure it: who has not installed it may want no such thing
    extra: str = ""
    #: whether it is only expected: it is told, and keeps nothing from being built
    is_guess: bool = False
    #: whether only a part of what the target can do needs it
    is_partial: bool = False
    #: whether a user without root can cure it
    is_own: bool = False

    def __str__(self) -> str:
        return f"{self.who}: {self.what}; try: {self.remedy}"


class CarthageError(Exception):
    """The root of all errors that this package raises on purpose.

    Characters that a terminal would act on are escaped in its message, whoever they come from.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(one) if isinstance(one, str) else one for one in args))


class LayoutError(CarthageError):
    """A declaration is wrong: names the layout, the member, the value, the place and the fix."""


class CallError(CarthageError, TypeError):
    """Something was called with arguments that it does not have; lists those that it has."""


class HostError(CarthageError):
    """This host lacks something that the plan needs."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        #: all that is missing, each with its remedy
        self.problems = tuple(problems)
        super().__init__("this host lacks:\n" + "\n".join(f"  {p}" for p in self.problems))


class BuildError(CarthageError):
    """An image could not be built; carries the tool's last lines."""


class LockError(CarthageError):
    """A lock is missing or damaged, or what is built would differ from it."""


class BundleError(CarthageError):
    """A bundle could not be written, or it is damaged, foreign, or has no room here."""


class TaskError(CarthageError):
    """A task could not be done: a package, a template, a unit."""


class CreationError(CarthageError):
    """A machine could not be created, or never became ready."""


class BlockedError(CarthageError):
    """Something was not even tried, since what it waited for had failed."""


class CommandError(CarthageError):
    """A command in a machine exited with a status other than 0, and ``check`` was asked for."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        #: exit status, output and duration
        self.result = result


class TimeLimitError(CarthageError):
    """A command, a stage or a wait did not end in time, with what was seen last; or a wait ended at
    once, since it would be in vain.
    """


class OutputLimitError(CarthageError):
    """A command printed more than it may, and was killed."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        #: what it printed until then, all of it
        self.result = result


class AnsibleError(CarthageError):
    """A play failed, or could not be started."""

    def __init__(self, message: str, result: PlaybookResult | None = None) -> None:
        super().__init__(message)
        #: what was done until then; None when nothing was started
        self.result = result


class AnsibleModuleError(AnsibleError):
    """A module that was run by itself failed somewhere."""

    def __init__(self, message: str, results: ModuleResults) -> None:
        super().__init__(message)
        #: what it did on each machine, where it went well, too
        self.results = results


class FaultError(CarthageError):
    """A fault cannot begin now: another one is in force, or the machine is off."""


class GateError(CarthageError):
    """A gate could not be opened; nothing listens, and nothing passes."""


class UnsupportedError(CarthageError):
    """A machine was asked for what its target cannot do; names the target, and those that can."""


class ForkedError(CarthageError):
    """A handle was used in a process that was forked from the test's, where nobody answers it."""

    def __init__(self, name: str, owner: int) -> None:
        super().__init__(
            f"{name}() was called in process {os.getpid()}, which was forked from process {owner}; "
            "its layout lives on an event loop there, and threads do not come along; try: call it "
            "in the test's process and hand the outcome on, or use a thread"
        )


class FabricError(CarthageError):
    """The fabric or a machine's agent refused a request."""

    #: the kernel's error number, where it was the kernel that refused
    errno: int | None = None
    #: whether there was no answer at all, for a long time
    is_silence: bool = False
    #: whether the request has never reached it whole, so that it can be asked of another
    is_unsent: bool = False


class RestoreError(FabricError):
    """A host was given back, and not as it was: a step of its ``on_return=`` failed."""


class StateError(CarthageError):
    """A run or an environment on disk is missing, taken or damaged."""


def printable(text: str) -> str:
    """Text without what a terminal acts on: escapes, returns, marks that turn its direction.

    Lines stay lines.
    """
    if text.isprintable():
        return str(text)
    return "".join(one if one in "\n\t" or one.isprintable() else ascii(one)[1:-1] for one in text)


#: what leads to an environment that is about to go
_HINTS = re.compile(r"; (?:log: \S+|try: pytest-carthage (?:logs|shell|exec) [^;]*)(?=;|$)")


def brief(message: str) -> str:
    """The first line of a message, for who reads it when the environment is gone: without what
    leads there.
    """
    line = message.strip().partition("\n")[0]
    return _HINTS.sub("", line).removesuffix("; it printed last:").removesuffix("; it printed:")


def first_line(error: BaseException) -> str:
    """What an error says first; that of others has its kind before it, as in ``OSError: ...``."""
    text = str(error).strip().partition("\n")[0]
    kind = type(error).__name__
    if isinstance(error, CarthageError):
        return text or kind
    return f"{kind}: {text}" if text else kind
