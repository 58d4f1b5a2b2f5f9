"""What errors say."""

from __future__ import annotations

import pytest

from pytest_carthage import errors
from pytest_carthage.errors import (
    CarthageError,
    CreationError,
    HostError,
    Problem,
    brief,
    first_line,
    printable,
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CreationError("machine 'web': no answer\nits log:"), "machine 'web': no answer"),
        (CreationError(""), "CreationError"),
        (CreationError("\n  machine 'web': no disk\n"), "machine 'web': no disk"),
        (OSError("no space left\non device"), "OSError: no space left"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError(" "), "ValueError"),
    ],
)
def test_first_line_has_the_kind_of_foreign_errors_before_it(
    error: BaseException, line: str
) -> None:
    assert first_line(error) == line


def test_host_error_lists_problems_with_their_remedies() -> None:
    problems = [
        Problem(who="podman", what="no program 'podman'", remedy="apt install podman"),
        Problem(who="images", what="no mmdebstrap", remedy="apt install mmdebstrap"),
    ]
    error = HostError(problems)
    assert str(error) == (
        "this host lacks:\n"
        "  podman: no program 'podman'; try: apt install podman\n"
        "  images: no mmdebstrap; try: apt install mmdebstrap"
    )
    assert error.problems == tuple(problems)


#: what a terminal would act on: a colour, a return, a bell, C1, bidi marks, half a surrogate pair
ACTS = "\x1b[31m \r \x07 \x9b2J \u202e \u2066 \u2028 \ud800 \x7f"
ESCAPED = "\\x1b[31m \\r \\x07 \\x9b2J \\u202e \\u2066 \\u2028 \\ud800 \\x7f"


@pytest.mark.parametrize(
    "kind",
    [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, CarthageError) and one is not HostError
    ],
    ids=lambda one: one.__name__,
)
def test_no_error_acts_on_a_terminal(kind: type[CarthageError]) -> None:
    if kind is errors.ForkedError:
        assert ESCAPED in str(errors.ForkedError(ACTS, 1))
        return
    more = {"result": None} if kind.__init__ is not CarthageError.__init__ else {}
    if kind is errors.AnsibleModuleError:
        more = {"results": None}
    error = kind(f"machine {ACTS!s}:\n\tlog", **more)
    assert str(error) == f"machine {ESCAPED}:\n\tlog"
    assert printable(str(error)) == str(error)


def test_problems_of_a_host_do_not_act_on_a_terminal() -> None:
    error = HostError([Problem(who="x", what=ACTS, remedy="y")])
    assert str(error) == f"this host lacks:\n  x: {ESCAPED}; try: y"


def test_text_that_can_be_printed_stays_as_it_is() -> None:
    text = "Größe 中文 😀 \\x1b\n\tx"
    assert printable(text) == text


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "no port 80; log: /s/web.log; try: pytest-carthage logs web; it printed last:\n  x",
            "no port 80",
        ),
        ("no JSON; try: pytest-carthage shell web", "no JSON"),
        ("it is stopped; try: start()", "it is stopped; try: start()"),
        ("no room; try: pytest-carthage images gc", "no room; try: pytest-carthage images gc"),
        ("", ""),
    ],
)
def test_brief_message_leads_to_nothing_that_goes(message: str, line: str) -> None:
    assert brief(message) == line
