"""What all tests of this repository share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

# A busy machine draws slowly: how fast that is says nothing of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Tests import each other's fixtures as `tests.live.conftest`. (The option `pythonpath = ..` would
# put a path with dots there, and files would be known by two names.)
sys.path.insert(0, str(Path(__file__).parents[1]))

from pytest_carthage.providers.libvirt.host import acceleration  # noqa: E402
from tests.support.workers import Queue, time_limit_s  # noqa: E402

pytest_plugins = ["pytester"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def pytest_configure() -> None:
    """Listen to signals again where a background job or ``nohup`` was told to ignore them.

    Processes inherit that, and so would the sessions that tests interrupt.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to the night what would take too long with emulated processors.

    Workers of xdist begin with what may take long: the others have enough to do then.
    """
    if not os.environ.get("CARTHAGE_TEST_EMULATED"):
        emulated = [item for item in items if item.get_closest_marker("emulated")]
        if emulated and acceleration().kind != "kvm":
            for item in emulated:
                item.add_marker(
                    pytest.mark.skip(reason="its processors would be emulated: tox -e emulated")
                )
    if hasattr(config, "workerinput"):
        items.sort(key=time_limit_s, reverse=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Queue | None:
    """With ``-n``, unless another ``--dist`` is asked for."""
    return Queue(config, log) if config.option.dist == "load" else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run tests of one ``xdist_group`` one at a time, whichever worker or session they are of.

    ``--dist=loadgroup`` alone does not see to that: with pytest 9.2 and pytest-xdist 3.8 groups
    are taken apart. The wait is outside of the test's own time limit.
    """
    groups = sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")})
    with contextlib.ExitStack() as stack:
        for group in groups:
            path = Path(tempfile.gettempdir()) / f"carthage-tests-{os.getuid()}-{group}.lock"
            file = stack.enter_context(path.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail, under CI, a test that is skipped since this host lacks what doctor could install."""
    report = yield
    if report.skipped and os.environ.get("CI") and "; try: " in str(report.longrepr):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def _signals_are_given_back() -> Generator[None]:
    """Fail the test that leaves handlers of its own behind, and give the others theirs back."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    yield
    after = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before, "this test left handlers of signals behind"
