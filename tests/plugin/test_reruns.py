"""Tests that are run again: what became of them last is what counts."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Suite

pytest.importorskip("pytest_rerunfailures")

RERUNS = ("-prerunfailures", "--reruns=1")
FLAKY = """
times = []

def test_flaky(pair):
    times.append(1)
    assert len(times) > 1
"""
#: as a plugin may do that does not know of fixtures: all ends with the first try, as at the end
TWICE = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    if item.name == "test_flaky":
        for report in runtestprotocol(item, nextitem=None, log=False):
            if report.failed:
                report.outcome = "rerun"
        item._initrequest()
"""


@pytest.mark.parametrize("after", ["", "def test_next(pair): pass\n"])
def test_passed_rerun_keeps_nothing(suite: Suite, after: str) -> None:
    suite.write(test_it=FLAKY + after)
    result = suite.run(*RERUNS, "--keep-on-fail")
    assert result.parseoutcomes() == {"passed": 2 if after else 1, "rerun": 1}
    assert suite.alive == []
    result.stdout.no_fnmatch_line("*kept environments*")


def test_environment_that_was_kept_for_a_first_try_goes_with_the_second(suite: Suite) -> None:
    suite.write(conftest=TWICE, test_it=FLAKY)
    result = suite.run("--keep-on-fail")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*-pair-2: done*"])
    assert suite.alive == []


def test_failed_rerun_keeps_its_environment(suite: Suite) -> None:
    suite.write(test_it=FLAKY.replace("> 1", "> 5"))
    result = suite.run(*RERUNS, "--keep-on-fail")
    assert result.parseoutcomes() == {"failed": 1, "rerun": 1}
    assert len(suite.alive) == 1


def test_environment_stays_for_another_test_that_failed(suite: Suite) -> None:
    suite.write(test_it=f"def test_bad(pair): assert not pair\n{FLAKY}")
    suite.run(*RERUNS, "--keep-on-fail", "--only-rerun=len").assert_outcomes(failed=1, passed=1)
    assert len(suite.alive) == 1
