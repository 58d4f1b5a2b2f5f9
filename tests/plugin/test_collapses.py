"""A machine whose kernel panics fails the tests that use its layout, whatever they ask of it."""

from __future__ import annotations

import re

import pytest

from tests.plugin.conftest import Suite

pytestmark = pytest.mark.real

#: what a provider tells of a machine whose kernel gives up, told of one that has none of its own
PANIC = """
import pytest
from pytest_carthage import CarthageError
from pytest_carthage.provider import End

def panic(layout, name, how="panic"):
    last = "BUG: for the test\\nKernel panic - not syncing: Fatal exception"
    end = End(how=how, status=0, at_s=0.0, last=last)
    machine = layout.aio.machines[name]

    async def tell():
        await machine._take_in_end(machine._means, end)

    layout.aio.portal.call(tell)
"""


def test_panic_fails_the_test_that_runs_also_one_that_never_asks_that_machine(
    suite: Suite,
) -> None:
    suite.write(
        test_it=PANIC
        + """
def test_before(pair):
    pass

@pytest.mark.parametrize("how", ["panic", "emulator"])
def test_elsewhere(pair, how):
    panic(pair, "two", how)
    assert pair.one.run("echo fine").stdout == "fine\\n"
    # for the next one, which the provider would start
    pair.aio.machines["two"]._stopped = False

def test_after(pair):
    assert pair.one.run("echo fine").stdout == "fine\\n"
"""
    )
    result = suite.run("--carthage-name=collapse")
    result.assert_outcomes(passed=2, failed=2)
    text = str(result.stdout)
    for words in ("kernel panicked at", "emulator ended at"):
        assert re.search(
            rf"machine 'two' of layout 'Pair': its {words} .*; it printed last:\n"
            r"  BUG: for the test\n  Kernel panic - not syncing: Fatal exception\n"
            r"no line of the test has met this, .*; try: pytest.raises\(CarthageError\)",
            text,
        ), text
    assert "artifacts: " in text
    assert "All traceback entries are hidden" not in text


def test_panic_is_told_beside_the_error_of_a_test_that_fails_anyway(suite: Suite) -> None:
    suite.write(
        test_it=PANIC
        + """
def test_it(pair):
    panic(pair, "two")
    assert "answer" == "nothing"

def test_next(pair):
    pass
"""
    )
    result = suite.run("--carthage-name=beside")
    result.assert_outcomes(passed=1, failed=1)
    text = str(result.stdout)
    assert "assert 'answer' == 'nothing'" in text
    assert text.count("machine 'two' of layout 'Pair': its kernel panicked") == 1


def test_panic_that_a_test_has_met_fails_it_no_more(suite: Suite) -> None:
    suite.write(
        test_it=PANIC
        + """
def test_asks(pair):
    panic(pair, "two")
    with pytest.raises(CarthageError, match="its kernel panicked"):
        pair.two.run("true")

def test_skips(pair):
    panic(pair, "one")
    pytest.skip("for the test")

def test_other():
    pass

def test_next(pair):
    pass
"""
    )
    result = suite.run("--carthage-name=met")
    # who has skipped itself has not met it: the next one that uses the layout is told
    result.assert_outcomes(passed=2, skipped=1, failed=1)
    assert "FAILED test_it.py::test_next" in str(result.stdout)
