"""What failed in a session, and which tests are blocked by it.

Registered with the first layout or stage of a session: a session without has none of these hooks.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import NoReturn

import pytest

from pytest_carthage.errors import CarthageError, HostError, brief, first_line
from pytest_carthage.plugin import blocked, tracebacks
from pytest_carthage.plugin.settings import settings_of

__all__ = ["Cause", "Causes", "current_test", "reason"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a layout, an image or a stage is not there for the tests that want it."""

    #: kept, so that its identity stays its own
    error: BaseException
    #: as in ``layout 'Shop'`` or ``stage 'imported'``
    subject: str
    #: the first test that met it
    test: str
    line: str
    #: environment that is gone by now, and was looked at before
    former: str | None = None

    @property
    def record(self) -> dict[str, str]:
        """What a report says of it."""
        return {"subject": self.subject, "test": self.test, "line": brief(self.line)}


class Causes:
    """Shows each failure once: to the test that met it first; it blocks the others."""

    def __init__(self, config: pytest.Config) -> None:
        self._strict = settings_of(config).strict
        self._full_trace: bool = config.getoption("fulltrace", default=False)
        self._causes: dict[int, Cause] = {}

    def of(self, error: BaseException) -> Cause | None:
        """Find the cause that an error is; None: it is none."""
        return self._causes.get(id(error))

    def remember(
        self,
        subject: str,
        error: BaseException,
        *,
        former: str | None = None,
        test: str | None = None,
    ) -> None:
        """Remember why something is not there, unless this cause is known already.

        :param test: node id of who met it; None: of the test that pytest is at.
        """
        self._causes.setdefault(
            id(error),
            Cause(
                error=error,
                subject=subject,
                test=current_test() if test is None else test,
                line=reason(error),
                former=former,
            ),
        )

    def refuse(
        self,
        subject: str,
        error: CarthageError,
        *,
        former: str | None = None,
        test: str | None = None,
        remark: str = "",
    ) -> NoReturn:
        """Have the test that wants it fail, or be skipped where this host lacks what it needs.

        :param former: environment that is gone by now, and was looked at before.
        :param test: node id of who met it; None: of the test that pytest is at.
        :param remark: lines that come after the message.
        :raises pytest.fail.Exception: the message says all.
        :raises pytest.skip.Exception: this host lacks something.
        """
        __tracebackhide__ = True
        if isinstance(error, HostError):
            lacks = f"{subject} is not built here: {error}"
            if not self._strict:
                pytest.skip(lacks)
            failure = pytest.fail.Exception(lacks, pytrace=False)
            self.remember(subject, failure, test=test)
            _raise(failure, None)
        message = str(error)
        self.fail(
            (message if subject in message else f"{subject}: {message}") + remark,
            error,
            subject=subject,
            former=former,
            test=test,
        )

    def fail(
        self,
        message: str,
        error: Exception,
        *,
        subject: str = "",
        former: str | None = None,
        test: str | None = None,
    ) -> NoReturn:
        """Fail with a message that was made of an error, which a full trace shows, too.

        :param subject: what is not there by that, for the tests that want it; empty: nothing.
        :raises pytest.fail.Exception: always.
        """
        __tracebackhide__ = True
        trace = "" if self._full_trace else tracebacks.of_author(error)
        text = f"{message}\n\n{trace}" if trace else message
        failure = pytest.fail.Exception(text, pytrace=False)
        if subject:
            self.remember(subject, failure, former=former, test=test)
        _raise(failure, error if self._full_trace else None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Block a test whose layout or stage failed before; skip what this host lacks."""
        __tracebackhide__ = True
        try:
            return (yield)
        except HostError as error:
            self._skip(error)
        except BaseException as error:
            blocking = self._blocking(error, item)
            if blocking is None:
                raise
        raise blocking

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Do the same for what a test asks for once it runs."""
        __tracebackhide__ = True
        try:
            return (yield)
        except HostError as error:
            self._skip(error)
        except BaseException as error:
            blocking = self._blocking(error, item)
            if blocking is None:
                raise
        raise blocking

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Have the report say what the test is blocked by, or what its failure blocks."""
        report = yield
        if call.excinfo is not None:
            error = call.excinfo.value
            cause = self.of(error)
            blocked.mark(report, error, cause.record if cause is not None else None)
        return report

    def _blocking(self, error: BaseException, item: pytest.Item) -> blocked.Blocked | None:
        """What a test gets that meets the failure of another one; None: it has its own."""
        cause = self.of(error)
        return None if cause is None or cause.test == item.nodeid else blocked.Blocked(cause.record)

    def _skip(self, error: HostError) -> NoReturn:
        if self._strict:
            raise error
        raise pytest.skip.Exception(str(error), _use_item_location=True) from None


def current_test() -> str:
    """Node id of the test that pytest is at; empty: it is at none."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]


def reason(error: BaseException) -> str:
    """Write an error in one line."""
    if isinstance(error, pytest.fail.Exception):
        return brief(str(error)) or type(error).__name__
    return brief(first_line(error))


def _raise(failure: BaseException, cause: Exception | None) -> NoReturn:
    """Raise from a frame that is not hidden: pytest remarks on a traceback with none."""
    raise failure from cause
