"""Scopes of fixtures: how long a live layout lasts, and a stage with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place

if TYPE_CHECKING:
    import pytest

__all__ = ["ATTRIBUTE", "SCOPES", "Follows", "Scope", "Scoped", "check_scope", "narrowest"]

Scope = Literal["session", "package", "module", "class", "function"]

#: the widest first
SCOPES: tuple[Scope, ...] = ("session", "package", "module", "class", "function")

#: attribute of a fixture of ours that holds how it is scoped
ATTRIBUTE = "__carthage_scope__"


def check_scope(scope: object, who: str, example: str) -> Scope:
    """Refuse what is no scope.

    :param who: as in ``"layout 'Shop'"``.
    :param example: what could be written, with ``{}`` for the scope.
    :raises LayoutError: it is none; says which there are.
    """
    if scope in SCOPES:
        return scope
    near = get_close_matches(scope, SCOPES, 1) if isinstance(scope, str) else []
    listed = ", ".join(map(repr, SCOPES))
    raise Mistake(
        what=f"scope {scope!r} is none of {listed}",
        remedy=example.format(repr(near[0] if near else "function")),
        place=Place.of_author(),
    ).error(who)


def narrowest(scopes: Iterable[Scope]) -> Scope:
    """The narrowest of some scopes; of none it is the whole session."""
    return max(scopes, key=SCOPES.index, default="session")


class Follows:
    """The scope of a stage that chooses none: the narrowest of the layouts that it is given.

    Pytest asks for it when it takes the fixture in. What the stage is given is looked for where
    it is written, then in ``conftest.py`` of that folder and those above, then in plugins. What
    is not there counts for nothing; a stage that has become too wide by that is refused once all
    tests are collected.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *, fixture_name: str, config: pytest.Config) -> Scope:
        """What pytest is to take as the fixture's scope."""
        return self._of(config, {fixture_name})

    def _of(self, config: pytest.Config, passed: set[str]) -> Scope:
        names = [
            name for name in inspect.signature(self._function).parameters if name not in passed
        ]
        passed.update(names)
        scopes: list[Scope] = []
        for name in names:
            scoped = self._find(name, config)
            if scoped is not None:
                scope = scoped.scope
                scopes.append(scope._of(config, passed) if isinstance(scope, Follows) else scope)
        return narrowest(scopes)

    def _find(self, name: str, config: pytest.Config) -> Scoped | None:
        """The fixture of ours that a stage means by a name, as far as is known by now."""
        for variables in self._places(config):
            for variable, value in tuple(variables.items()):
                scoped = getattr(value, ATTRIBUTE, None)
                if isinstance(scoped, Scoped) and (scoped.name or variable) == name:
                    return scoped
        return None

    def _places(self, config: pytest.Config) -> Iterator[Mapping[str, Any]]:
        """What is defined where, the nearest first."""
        function = inspect.unwrap(self._function)
        yield getattr(function, "__globals__", {})
        plugins = [each for each in config.pluginmanager.get_plugins() if inspect.ismodule(each)]
        folders = [str(folder) for folder in Path(function.__code__.co_filename).parents]
        above: dict[int, Mapping[str, Any]] = {}
        for plugin in plugins:
            folder, _, file = (getattr(plugin, "__file__", None) or "").rpartition("/")
            if file == "conftest.py" and folder in folders:
                above[folders.index(folder)] = vars(plugin)
        yield from (above[distance] for distance in sorted(above))
        yield from (vars(plugin) for plugin in plugins if not _is_conftest(plugin))


def _is_conftest(module: ModuleType) -> bool:
    return (getattr(module, "__file__", None) or "").endswith("/conftest.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoped:
    """How a fixture of ours is scoped."""

    #: None: that of the variable to which it is assigned
    name: str | None
    scope: Scope | Follows
