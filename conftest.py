"""What all tests of this repository share."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest

pytest_plugins = ["pytester"]


def pytest_configure() -> None:
    """Listen to signals again where a background job or ``nohup`` was told to ignore them.

    Processes inherit that, and so would the sessions that tests interrupt.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail, under CI, a test that is skipped since this host lacks what doctor could install."""
    report = yield
    if report.skipped and os.environ.get("CI") and "; try: " in str(report.longrepr):
        report.outcome = "failed"
    return report
