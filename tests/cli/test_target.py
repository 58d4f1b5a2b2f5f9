"""From what a person typed to a live environment or machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_carthage.cli import target
from pytest_carthage.cli.usage import Usage
from pytest_carthage.errors import CarthageError
from tests.cli.alive import be_alive, listed

SHOP = listed("bakodi-shop", "web", "db")
OFFICE = listed("bakodi-office", "web", "printer")


def test_environment_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    be_alive(monkeypatch, [SHOP, OFFICE])
    assert target.environment("bakodi-office") is OFFICE


def test_environment_that_is_not_alive_is_refused_with_the_words_of_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    be_alive(monkeypatch, [SHOP])
    with pytest.raises(Usage, match=r"^no environment 'bakodi-lab' is alive$"):
        target.environment("bakodi-lab")


@pytest.mark.parametrize(
    ("text", "beginning"),
    [(None, "no environment is alive"), ("web", "machine 'web': no environment is alive")],
)
def test_nothing_alive_is_refused_with_how_to_build_one(
    monkeypatch: pytest.MonkeyPatch, text: str | None, beginning: str
) -> None:
    be_alive(monkeypatch, [])
    with pytest.raises(Usage) as caught:
        target.environment(None) if text is None else target.machine(text)
    assert str(caught.value) == (
        f"{beginning}; see `pytest-carthage ls`, or build one with "
        "`pytest-carthage up PATH.py:Class`"
    )


def test_machine_is_found_by_its_name_where_that_is_the_only_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    be_alive(monkeypatch, [SHOP, OFFICE])
    assert target.machine("db") == (SHOP, "db")
    assert target.machine("printer") == (OFFICE, "printer")


def test_machine_is_found_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    be_alive(monkeypatch, [SHOP, OFFICE])
    assert target.machine("bakodi-office/web") == (OFFICE, "web")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web", "machine 'web': which one? there are: bakodi-shop/web, bakodi-office/web"),
        (
            "till",
            "no machine 'till' is alive; there are: bakodi-shop/web, bakodi-shop/db, "
            "bakodi-office/web, bakodi-office/printer",
        ),
        (
            "bakodi-shop/till",
            "environment 'bakodi-shop' has no machine 'till'; its machines are: web, db",
        ),
        ("bakodi-lab/web", "no environment 'bakodi-lab' is alive"),
    ],
)
def test_machine_that_is_not_clear_is_refused_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    be_alive(monkeypatch, [SHOP, OFFICE])
    with pytest.raises(Usage) as caught:
        target.machine(text)
    assert str(caught.value) == message


def test_machine_of_the_only_environment_is_refused_with_its_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    be_alive(monkeypatch, [listed("bakodi-empty")])
    with pytest.raises(Usage, match=r"has no machine 'web'; its machines are: none$"):
        target.machine("web")


def test_machine_that_does_not_answer_is_an_error_with_where_to_look(tmp_path: Path) -> None:
    gone = listed("bakodi-shop", "web", folder=tmp_path)
    with pytest.raises(CarthageError) as caught:
        target.connect(gone, "web")
    message = str(caught.value)
    assert message.startswith("machine 'web' of environment 'bakodi-shop' does not answer: [Errno")
    assert message.endswith("; try: pytest-carthage logs bakodi-shop/web")


def test_environment_that_was_mistyped_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    be_alive(monkeypatch, [SHOP, OFFICE])
    with pytest.raises(Usage, match=r"is alive; did you mean 'bakodi-office'\?$"):
        target.environment("bakodi-ofice")
