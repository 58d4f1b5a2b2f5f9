"""Calls that do not fit: what is said of what there is."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_carthage.calls import closest, misfit


def impair(self: Any, *, loss_pct: float = 0, delay_ms: float = 0) -> None: ...


def put(source: str, target: str, *more: str, user: str | None = None) -> None: ...


def only(a: int, b: int = 0, /, c: int = 0, **rest: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "own", "what", "remedy"),
    [
        (
            impair,
            (0,),
            {"delay": 5},
            1,
            "it has no argument 'delay'",
            "delay_ms=; there are loss_pct=, delay_ms=",
        ),
        (
            impair,
            (0, 5),
            {},
            1,
            "it takes its arguments by name, and got 1 without one",
            "there are loss_pct=, delay_ms=",
        ),
        (put, (), {}, 0, "argument 'source', 'target' is missing", None),
        (put, ("a",), {"source": "b"}, 0, "argument 'source' is given twice", None),
        (
            put,
            ("a", "b"),
            {"group": "x", "owner": "y"},
            0,
            "it has no argument 'group', 'owner'",
            "there are source, target, *more, user=",
        ),
        (
            only,
            (1, 2, 3, 4),
            {},
            0,
            "it takes at most 3 without a name, and got 4",
            "there are a, b, c, **rest",
        ),
        (lambda: None, (), {"x": 1}, 0, "it has no argument 'x'", "no arguments: it takes none"),
    ],
)
def test_call_that_does_not_fit_is_told_with_what_there_is(
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    own: int,
    what: str,
    remedy: str | None,
) -> None:
    wrong = misfit(function, args, kwargs, own=own)
    assert wrong is not None
    assert wrong.what == what
    assert remedy in (None, wrong.remedy)


def test_call_that_fits_is_no_misfit() -> None:
    assert misfit(put, ("a", "b", "c"), {"user": "x"}) is None
    assert misfit(only, (1,), {"anything": 1}) is None


def test_function_without_a_signature_is_left_to_python() -> None:
    assert misfit(type, (1, 2, 3, 4, 5), {}) is None


def test_names_that_nobody_writes_are_not_listed() -> None:
    def declare(a: int, *, place: int = 0) -> None: ...

    wrong = misfit(declare, (), {"b": 1}, unlisted=("place",))
    assert wrong is not None
    assert wrong.remedy == "there are a"


def test_closest_name_is_asked_for() -> None:
    assert closest("wbe", ["web", "db"]) == "did you mean 'web'?"
    assert closest("zzz", ["web", "db"]) == ""
    assert closest(7, ["web"]) == ""
