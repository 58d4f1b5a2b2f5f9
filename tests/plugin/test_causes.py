"""Which failure is shown, and which tests are blocked by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_carthage.errors import CreationError, HostError, Problem
from pytest_carthage.plugin.blocked import Blocked
from pytest_carthage.plugin.causes import Causes, current_test, reason
from tests.plugin.stubs import Item, config, through

LACKS = HostError([Problem(who="podman", what="no program", remedy="apt install podman")])


def at_test(monkeypatch: pytest.MonkeyPatch, test: str) -> None:
    """Have pytest be at a test; it says so itself in each phase, so no fixture can do this."""
    monkeypatch.setenv("PYTEST_CURRENT_TEST", f"{test} (setup)")


def raised(function: Callable[[], object]) -> BaseException:
    """What a function raises, be it what would end this test."""
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def refused(causes: Causes, error: Any, subject: str = "layout 'Shop'") -> BaseException:
    return raised(lambda: causes.refuse(subject, error, former="run-shop"))


def set_up(causes: Causes, test: str, error: BaseException) -> BaseException:
    """What becomes of an error in the setup of a test."""

    def inner() -> None:
        raise error

    hook: Any = causes.pytest_runtest_setup
    return raised(lambda: through(hook(Item(test)), inner))


def test_current_test_is_without_its_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    at_test(monkeypatch, "t.py::test_a[x (y)]")
    assert current_test() == "t.py::test_a[x (y)]"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("machine 'web': no disk", "layout 'Shop': machine 'web': no disk"),
        ("machine 'web' of layout 'Shop': no disk", "machine 'web' of layout 'Shop': no disk"),
    ],
)
def test_refusal_names_its_subject_once(message: str, shown: str) -> None:
    assert str(refused(Causes(config()), CreationError(message))) == shown


def test_refusal_shows_what_it_was_made_of_only_in_a_full_trace() -> None:
    error = CreationError("no disk")
    assert refused(Causes(config()), error).__cause__ is None
    assert refused(Causes(config(full_trace=True)), error).__cause__ is error


def test_failure_is_raised_for_its_first_test_and_blocks_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_test(monkeypatch, "t.py::test_a[x (y)]")
    causes = Causes(config())
    failure = refused(causes, CreationError("machine 'web': no disk\nits log: ..."))
    cause = causes.of(failure)
    assert cause is not None
    assert (cause.subject, cause.former) == ("layout 'Shop'", "run-shop")
    assert set_up(causes, "t.py::test_a[x (y)]", failure) is failure
    blocked = set_up(causes, "t.py::test_b", failure)
    assert isinstance(blocked, Blocked)
    assert str(blocked) == (
        "blocked by layout 'Shop', which failed in t.py::test_a[x (y)]: "
        "layout 'Shop': machine 'web': no disk"
    )


def test_first_subject_of_an_error_stays_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    at_test(monkeypatch, "t.py::test_a[x (y)]")
    causes = Causes(config())
    error = ValueError("no price")
    causes.remember("stage 'imported'", error)
    at_test(monkeypatch, "t.py::test_b")
    causes.remember("stage 'production'", error)
    cause = causes.of(error)
    assert cause is not None
    assert cause.subject == "stage 'imported'"
    assert cause.test == "t.py::test_a[x (y)]"
    assert cause.line == "ValueError: no price"


def test_error_that_is_no_cause_is_raised_as_it_is() -> None:
    error = ValueError("mine")
    causes = Causes(config())
    assert causes.of(error) is None
    assert set_up(causes, "t.py::test_b", error) is error


def test_host_that_lacks_something_skips_what_wants_it() -> None:
    skipped = refused(Causes(config()), LACKS)
    assert isinstance(skipped, pytest.skip.Exception)
    assert str(skipped) == f"layout 'Shop' is not built here: {LACKS}"


def test_host_that_lacks_something_fails_a_strict_session() -> None:
    causes = Causes(config(strict=True))
    failure = refused(causes, LACKS)
    assert isinstance(failure, pytest.fail.Exception)
    assert str(failure) == f"layout 'Shop' is not built here: {LACKS}"
    assert causes.of(failure) is not None


@pytest.mark.parametrize("phase", ["setup", "call"])
def test_lack_that_shows_itself_later_skips_or_fails(phase: str) -> None:
    def run(causes: Any) -> BaseException:
        def inner() -> None:
            raise LACKS

        if phase == "setup":
            return raised(lambda: through(causes.pytest_runtest_setup(Item("t.py::a")), inner))
        return raised(lambda: through(causes.pytest_runtest_call(Item("t.py::a")), inner))

    skipped = run(Causes(config()))
    assert isinstance(skipped, pytest.skip.Exception)
    assert str(skipped) == str(LACKS)
    assert run(Causes(config(strict=True))) is LACKS


def test_test_that_passes_is_left_alone() -> None:
    causes: Any = Causes(config())
    assert through(causes.pytest_runtest_setup(Item("t.py::test_a")), lambda: "set up") == "set up"
    assert through(causes.pytest_runtest_call(Item("a")), lambda: "called") == "called"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (pytest.fail.Exception("layout 'Shop': no disk\nmore"), "layout 'Shop': no disk"),
        (pytest.fail.Exception(""), "Failed"),
        (ValueError("7\n8"), "ValueError: 7"),
    ],
)
def test_reason_is_one_line(error: BaseException, line: str) -> None:
    assert reason(error) == line
