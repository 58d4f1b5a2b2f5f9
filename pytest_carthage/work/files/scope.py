"""What relative paths and templates mean to a piece of an author's code: a task, a welcome."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.model.role import Role

__all__ = ["Scope"]

#: folders beside a file of code that have what it reads
_BESIDE = ("", "files", "templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where relative paths of the host are looked for, and the variables of every template."""

    #: the first in which there is a file of that name counts; none: the working folder
    folders: tuple[Path, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, anchor: Path, role: Role | None = None) -> Scope:
        """That of a task: the folder of its file, and the parameters of its role."""
        folders = tuple(anchor / name for name in _BESIDE)
        return cls(folders=folders, variables=_variables_of(role))

    @classmethod
    def of_method(cls, method: Callable[..., Any], role: Role) -> Scope:
        """That of another method of a role, for which the working folder counts as well."""
        file = inspect.unwrap(method).__code__.co_filename
        own = cls.of(Path(file).absolute().parent, role)
        return cls(folders=(*own.folders, Path()), variables=own.variables)

    def places(self, path: Path) -> list[Path]:
        """Where a path is looked for, in this order."""
        if path.is_absolute() or not self.folders:
            return [path]
        return [folder / path for folder in self.folders]


def _variables_of(role: Role | None) -> dict[str, Any]:
    """Variables that templates of a role's code have: its parameters by name, and ``role``."""
    if role is None:
        return {}
    parameters = getattr(role, "__dataclass_fields__", ())
    return {"role": role} | {name: getattr(role, name) for name in parameters}
