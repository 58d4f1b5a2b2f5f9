"""A router between networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.model.role import Role

if TYPE_CHECKING:
    from pytest_carthage.model.forward import Forward

__all__ = ["Router"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Router(Role):
    """Forwards packets between its links; hides what leaves on some of them behind its address."""

    #: interface or interfaces, as in ``"dmz0"``
    masquerade: str | tuple[str, ...] = ()
    #: its ports that lead to machines behind it
    forwards: Sequence[Forward] = ()
    #: whether it forwards packets between its links
    forward: bool = True
