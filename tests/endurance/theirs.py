"""A role of somebody else's, which says and checks whatever it likes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_carthage import Role, filesystem_task

__all__ = ["Theirs", "a_task"]


def _said(name: str, usual: object) -> Any:
    def say(self: Theirs) -> Any:
        value = self.says.get(name, usual)
        return value(self) if callable(value) and not isinstance(value, type) else value

    return property(say)


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs(Role):
    """Raises errors of Python's own, and has properties that are computed."""

    port: int = 80
    says: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.port < 0:
            raise ValueError(f"port {self.port} is negative; try: port=80")

    packages = _said("packages", ())
    includes = _said("includes", ())
    offers = _said("offers", ())
    needs = _said("needs", ())
    links = _said("links", {})
    programs = _said("programs", {})
    uses = _said("uses", ())
    serves_dhcp = _said("serves_dhcp", False)
    forward = _said("forward", False)
    masquerade = _said("masquerade", ())
    forwards = _said("forwards", ())
    groups = _said("groups", ())


@filesystem_task("a task")
def a_task(fs: Any) -> None:
    """Do nothing."""
