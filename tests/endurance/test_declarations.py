"""Random declarations, some of them: all the others are tried by hand and every night."""

from __future__ import annotations

import pytest

from pytest_carthage.model import file
from tests.endurance import declarations
from tests.endurance.trial import attempt

SEED = 20
COUNT = 1500


def test_some_declarations_are_planned_or_refused_and_none_fails() -> None:
    report = declarations.examine(SEED, range(COUNT))
    assert report.failures == {}, "python -m tests.endurance.declarations --count 3000 --seed 20"
    assert report.planned > COUNT / 8
    assert report.refused > COUNT / 8


def test_declaration_of_a_number_is_the_same_each_time() -> None:
    assert str(declarations.program(1, 7)) == str(declarations.program(1, 7))
    assert str(declarations.program(1, 7)) != str(declarations.program(2, 7))


def test_failure_is_told_once_with_the_least_that_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(source: object, *_: object) -> list[tuple[str, str]]:
        return [("x", "y")][len(str(source)) :] or 1 / 0  # type: ignore[return-value]

    monkeypatch.setattr(file, "_mistakes", fail)
    number, group = next(
        (number, trial.group)
        for number in range(2000)
        if (trial := attempt(declarations.program(SEED, number))).fault
    )
    assert group.startswith("ZeroDivisionError that nobody foresaw at ")
    small, _ = declarations.smallest(declarations.program(SEED, number), group)
    lines = str(small).splitlines()
    assert len(lines) <= 3
    assert "File(" in str(small)
