"""What a machine tells the target that realises it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar

from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place

__all__ = ["On"]


@dataclass(frozen=True, slots=True, kw_only=True)
class On:
    """What a machine tells its target: ``Machine(on=...)`` takes it in place of a name.

    Each target has its own; that of a target of yours is a frozen dataclass which subclasses this
    one. What it holds has a content key, and must not be secret: it is shown and kept.
    """

    #: name of the target that it is for
    target: ClassVar[str]
    #: what an author is told to write in place of a capability that the target lacks, as in
    #: ``{"limits": "on=Vm(memory_mib=..., cpus=...)"}``
    instead: ClassVar[Mapping[str, str]] = MappingProxyType({})
    place: Place = field(default_factory=Place.of_author, compare=False, repr=False)

    def wrong_values(self) -> Iterator[tuple[str, str]]:
        """What is wrong with its values, and what can be written instead."""
        yield from ()

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """What is wrong with it, whatever the machine is."""
        return tuple(
            Mistake(what=what, remedy=remedy, place=self.place)
            for what, remedy in self.wrong_values()
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """What it says beside the defaults, by name."""
        values: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            default = each.default
            if default is MISSING and each.default_factory is not MISSING:
                default = each.default_factory()
            if each.compare and value != default:
                values[each.name] = value
        return MappingProxyType(values)

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({given})"
