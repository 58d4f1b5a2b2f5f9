"""What tasks work on: its name, the way into it, and what a view of it differs in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pytest_carthage.errors import FabricError, TaskError
from pytest_carthage.handles.kept import Kept
from pytest_carthage.handles.result import Result
from pytest_carthage.portal import Portal
from pytest_carthage.work.files.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_carthage.handles.channel import Channel
    from pytest_carthage.model.keys.inputs import Inputs

__all__ = ["Subject"]

#: commands that are kept: the last ones, as many as that, and with no more output than this
_MOST_COMMANDS, _MOST_BYTES = 1000, 8 << 20


class Subject:
    """What tasks work on.

    A task gets a view of it, which differs in its :attr:`scope` alone: see :meth:`within`.
    """

    # views have one namespace, and this each for itself
    __slots__ = ("__dict__", "__weakref__", "scope")

    #: what relative paths and templates mean to who has this view
    scope: Scope

    def __init__(
        self, name: str, *, who: str, portal: Portal, channel: Channel | None = None
    ) -> None:
        self.scope = Scope()
        self._name = name
        self._who = who
        self._channel = channel
        self.portal = portal
        #: commands that were run through this handle, in the order of their ends: the last
        #: thousand of them, fewer where that would be more than 8 MiB of output; of a long output
        #: the beginning and the end, of secret ones nothing
        self.commands: Kept[Result] = Kept(
            head=0, tail=_MOST_COMMANDS, most_bytes=_MOST_BYTES, weigh=Result.size
        )
        #: what a task has read of the host, where that counts
        self.inputs: Inputs | None = None
        #: whether nothing may be fetched
        self.offline = False
        #: is told how far something is that takes its time
        self.note: Callable[[str], None] = lambda text: None
        #: gives the folder of the host where packages that were fetched are kept
        self.package_cache: Callable[[], Path] = _no_packages
        #: what its programs are told of languages and encodings, among other variables
        self.locale: Mapping[str, str] = {}
        #: archive that its packages come from; empty: the host's own
        self.mirror = ""

    def within(self, scope: Scope) -> Self:
        """A view of it for one piece of an author's code; all else is common to both."""
        view = object.__new__(type(self))
        view.__dict__ = self.__dict__
        view.scope = scope
        return view

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subject) and other.__dict__ is self.__dict__

    def __hash__(self) -> int:
        return id(self.__dict__)

    async def _last_words(self) -> str:
        """The end of what it has printed, for a message; empty: nobody keeps that."""
        return ""

    @property
    def variables(self) -> Mapping[str, Any]:
        """Variables of every template: the role's parameters, in its own code."""
        return self.scope.variables

    @property
    def who(self) -> str:
        """How messages about it begin."""
        return self._who

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    async def circumstances(self, since_s: float, *, status: int | None = None) -> Sequence[str]:
        """What went on around it since a UNIX time that may be why something has failed.

        :param status: of a command that has failed.
        """
        return ()

    @property
    def channel(self) -> Channel:
        """The connection to its agent."""
        if self._channel is None:
            raise FabricError(f"{self._who}: it is closed")
        return self._channel

    def __repr__(self) -> str:
        return f"<{self._who}>"


def _no_packages() -> Path:
    raise TaskError("packages cannot be fetched for it: nobody keeps them")
