"""What is said before a command begins that is another user's, whatever pieces it comes in."""

from __future__ import annotations

import pytest

from pytest_carthage.channels.ssh.becoming import Admission, Becoming, becoming
from pytest_carthage.channels.ssh.way import Secrets, Way

WAY = Way(host="db1", become="root", become_password_env="X")


def said(pieces: list[bytes], wanted: Becoming) -> tuple[bytes, list[bytes | None], Admission]:
    admission = Admission(wanted)
    text = b""
    answers: list[bytes | None] = []
    for piece in pieces:
        kept, answered = admission.take(piece)
        text += kept
        answers += answered
    return text, answers, admission


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("method", ["sudo", "su"])
def test_password_is_given_once_it_is_asked_for(method: str, size: int) -> None:
    way = Way(host="db1", become="root", become_method=method, become_password_env="X")
    wanted = becoming(way, Secrets(become_password="pw"))
    whole = b"a lecture\n" + wanted.prompt + wanted.begun + b"its own words, Password: included"
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    text, answers, admission = said(pieces, wanted)
    assert text == b"a lecture\nits own words, Password: included"
    assert answers == [b"pw\n"]
    assert admission.is_over
    assert admission.take(b"Password: ") == (b"Password: ", ())


def test_password_is_not_given_where_nobody_asks() -> None:
    wanted = becoming(WAY, Secrets(become_password="pw"))
    text, answers, admission = said([wanted.begun + b"x"], wanted)
    assert (text, answers, admission.is_over) == (b"x", [], True)


def test_wrong_password_is_given_once() -> None:
    wanted = becoming(WAY, Secrets(become_password="pw"))
    again = wanted.prompt + b"Sorry, try again.\n" + wanted.prompt
    text, answers, admission = said([again, wanted.prompt[:5]], wanted)
    assert text == b"Sorry, try again.\n"
    assert answers == [b"pw\n", None]
    assert not admission.is_over
    assert admission.left() == wanted.prompt[:5]


def test_password_is_in_no_command_and_in_no_text_about_it() -> None:
    wanted = becoming(WAY, Secrets(become_password="pw-of-mine"))
    assert "pw-of-mine" not in repr(wanted)
    assert "pw-of-mine" not in " ".join(wanted.words)


def test_marks_are_of_one_command_alone() -> None:
    secrets = Secrets(become_password="pw")
    assert becoming(WAY, secrets).begun != becoming(WAY, secrets).begun


def test_nobody_is_asked_where_there_is_no_password() -> None:
    wanted = becoming(WAY, Secrets())
    assert wanted.words == ["sudo", "-n", "-u", "root", "--"]
    assert Admission(wanted).is_over
