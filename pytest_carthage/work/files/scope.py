"""What relative paths and templates mean to a piece of an author's code: a task, a welcome."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_carthage.bridge import author_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.model.role import Role

__all__ = ["Scope"]

#: folders beside a file of code that have what it reads
_BESIDE = ("", "files", "templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where relative paths of the host are looked for, and the variables of every template."""

    #: the first in which there is a file of that name counts; none: those of who asks
    folders: tuple[Path, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, anchor: Path, role: Role | None = None) -> Scope:
        """That of a task: the folder of its file, and the parameters of its role.

        Where those are paths, they are of the folder of the file in which the role is written.
        """
        given = () if role is None else (Path(role.declared_at.file).absolute().parent,)
        return cls(folders=_beside(anchor, *given), variables=_variables_of(role))

    @classmethod
    def of_method(cls, method: Callable[..., Any], role: Role) -> Scope:
        """That of another method of a role."""
        file = inspect.unwrap(method).__code__.co_filename
        return cls.of(Path(file).absolute().parent, role)

    def places(self, path: Path) -> list[Path]:
        """Where a path is looked for, in this order."""
        if path.is_absolute():
            return [path]
        return [folder / path for folder in self.folders or _beside(author_folder())]


def _beside(*anchors: Path) -> tuple[Path, ...]:
    """Folders in which files of these are looked for."""
    return tuple(dict.fromkeys(anchor / name for anchor in anchors for name in _BESIDE))


def _variables_of(role: Role | None) -> dict[str, Any]:
    """Variables that templates of a role's code have: its parameters by name, and ``role``."""
    if role is None:
        return {}
    parameters = getattr(role, "__dataclass_fields__", ())
    return {"role": role} | {name: getattr(role, name) for name in parameters}
