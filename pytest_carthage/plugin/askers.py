"""Which fixtures stand on which, also where one asks for another while it runs.

Pytest itself forgets who has called ``request.getfixturevalue()`` once a fixture is set up.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

__all__ = ["Askers"]


class Askers:
    """Remembers what each fixture has asked for, of those that are set up."""

    def __init__(self) -> None:
        #: a fixture's definition to those that it asked for
        self._asked: dict[Any, set[Any]] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: Any, request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Note what a fixture asks for, by its parameters and while it runs."""
        __tracebackhide__ = True
        self._asked.pop(fixturedef, None)
        for name in fixturedef.argnames:  # which are set up by now
            self._note(fixturedef, _active(request).get(name))
        ask = request.getfixturevalue

        def getfixturevalue(argname: str) -> Any:
            __tracebackhide__ = True
            value = ask(argname)
            self._note(fixturedef, _active(request).get(argname))
            return value

        request.getfixturevalue = getfixturevalue  # type: ignore[method-assign]
        return (yield)

    def note_chain(self, request: pytest.FixtureRequest) -> None:
        """Take in who waits for a fixture that is being set up, also from before we listened."""
        asked = getattr(request, "_fixturedef", None)
        while (request := getattr(request, "_parent_request", None)) is not None:  # type: ignore[assignment]
            asker = getattr(request, "_fixturedef", None)
            self._note(asker, asked)
            asked = asker

    def uses(self, item: pytest.Item, definition: Any) -> bool:
        """Whether a test stands on a fixture, be it by way of others."""
        return self._reaches(_definitions_of(item), definition)

    def stands_on(self, request: pytest.FixtureRequest, definition: Any) -> bool:
        """Whether a fixture that is being set up stands on another one."""
        own = getattr(request, "_fixturedef", None)
        active = _active(request)
        given = [active[name] for name in getattr(own, "argnames", ()) if name in active]
        return self._reaches([own, *given], definition)

    def _reaches(self, waiting: list[Any], definition: Any) -> bool:
        passed = set(waiting)
        while waiting:
            current = waiting.pop()
            if current is definition:
                return True
            further = self._asked.get(current, set()) - passed
            passed |= further
            waiting += further
        return False

    def _note(self, asker: Any, asked: Any) -> None:
        if asker is not None and asked is not None and asker is not asked:
            self._asked.setdefault(asker, set()).add(asked)


def _active(request: Any) -> dict[str, Any]:
    """Name to definition, of what was asked for on behalf of one test."""
    return getattr(request, "_fixture_defs", {})


def _definitions_of(item: pytest.Item) -> list[Any]:
    """What a test asks for: by its parameters and theirs, by marks, or while it runs."""
    request = getattr(item, "_request", None)
    names = getattr(request, "fixturenames", getattr(item, "fixturenames", ()))
    info = getattr(item, "_fixtureinfo", None)
    declared: dict[str, Any] = info.name2fixturedefs if info is not None else {}
    definitions = [each for name in names for each in declared.get(name, ())]
    return [*definitions, *_active(request).values()]
