"""Faults heal with whoever began them; the bundle tells of them; what cannot be done is skipped."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence

import pytest

from pytest_carthage.errors import Problem
from pytest_carthage.live.faults import probing
from tests.plugin.conftest import Suite

pytestmark = pytest.mark.real

REACH = """
import pytest

def reaches(pair):
    try:
        pair.one.ping("two", timeout_s=0.3)
    except OSError:
        return False
    return True

def is_healed(pair):
    # a busy host may take longer than that for one of them
    return any(reaches(pair) for _ in range(50))
"""


def test_what_a_test_forgot_heals_at_its_end_also_when_it_failed(suite: Suite) -> None:
    suite.write(
        test_it=REACH
        + """
@pytest.fixture
def looks_after(pair):
    yield
    assert is_healed(pair)      # the test's faults are gone when its fixtures end

def test_forgets(pair, looks_after):
    pair.two.link("eth0").down()
    assert not reaches(pair)

def test_next(pair):
    assert is_healed(pair)

def test_fails(pair, looks_after):
    pair.partition("one", "two")
    pair.two.freeze()
    pair.one.crash()
    assert False

def test_last(pair):
    assert pair.one.run("true").ok and pair.two.run("true").ok
    assert is_healed(pair)
"""
    )
    result = suite.run("--carthage-name=healed")
    result.assert_outcomes(passed=3, failed=1)

    folder = suite.bundle("test_it.py.test_fails")
    faults = json.loads((folder / "healed-pair/faults.json").read_text())
    assert [fault["what"] for fault in faults] == [
        "partition one | two",
        "machine two frozen",
        "machine one crashed",
    ]
    assert all(fault["healed_s"] is None for fault in faults)  # it was looked at before
    assert all(fault["began_s"] > 1e9 for fault in faults)
    events = (folder / "events.txt").read_text()
    assert "healed-pair: fault partition one | two: in force" in events
    assert "healed-pair: fault link two.eth0 down: done in" in events
    missing = json.loads((folder / "summary.json").read_text())["environments"]["healed-pair"]
    assert "it is frozen" in missing["machines"]["two"]["missing"]["observed.json"]


def test_what_a_fixture_began_heals_when_it_ends(suite: Suite) -> None:
    suite.write(
        test_it=REACH
        + """
@pytest.fixture(scope="module")
def cut(pair):
    pair.partition("one", "two")
    yield
    assert not reaches(pair)      # its own end is not too late

def test_one(pair, cut):
    assert not reaches(pair)

def test_two(pair, cut):
    assert not reaches(pair)
""",
        test_later=REACH
        + """
def test_three(pair):
    assert is_healed(pair)

@pytest.fixture
def fails(pair):
    pair.two.link("eth0").down()
    raise ValueError("on purpose")

def test_four(fails):
    pass

def test_five(pair):
    assert is_healed(pair)
""",
    )
    suite.run().assert_outcomes(passed=4, errors=1)


def test_what_a_stage_began_lasts_as_long_as_the_layout(suite: Suite) -> None:
    suite.write(
        conftest="""
        @stage
        async def slow(pair):
            await pair.aio.two.link("eth0").impair(delay_ms=10)
            LIVE.append(pair)

        LIVE = []

        def pytest_fixture_post_finalizer(fixturedef):
            if fixturedef.argname == "slow" and LIVE:
                assert LIVE.pop().one.ping("two") >= 0.020
                print("it outlasts its stage")
        """,
        test_it="""
        def test_one(pair, slow):
            assert pair.one.ping("two") >= 0.020

        def test_two(pair):
            assert pair.one.ping("two") >= 0.020
        """,
    )
    result = suite.run("-s")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*it outlasts its stage*"])


def test_async_tests_and_workers_heal_too(suite: Suite) -> None:
    suite.write(
        test_it=REACH
        + """
import asyncio

@pytest.mark.parametrize("number", range(4))
def test_async(pair, number):
    async def go():
        await pair.aio.one.ping("two", timeout_s=20)
        await pair.aio.two.link("eth0").down()
    asyncio.run(go())
    assert not reaches(pair)
"""
    )
    suite.run("-n2", xdist=True).assert_outcomes(passed=4)


def test_needs_is_looked_at_before_anything_is_built(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def lacking(names: Sequence[str]) -> Sequence[Problem]:
        asked.append(list(names))
        return [probing.lack(name, "no such thing") for name in names if name == "delay"]

    monkeypatch.setattr("pytest_carthage.plugin.needs.lacking", lacking)
    suite.write(
        test_it="""
        import pytest

        @pytest.mark.carthage_needs("delay", "loss")
        def test_not_here(pair):
            assert False

        @pytest.mark.carthage_needs("loss")
        def test_here():
            pass
        """
    )
    result = suite.run("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    said = "*test_not_here cannot be run here: faults: delay cannot be done on this host: no such"
    result.stdout.fnmatch_lines([f"{said}*"])
    assert asked == [["delay", "loss"], ["loss"]]
    suite.run("--carthage-strict").assert_outcomes(passed=1, errors=1)


def test_needs_refuses_a_fault_that_there_is_not(suite: Suite) -> None:
    suite.write(
        test_it="""
        import pytest

        @pytest.mark.carthage_needs("rain")
        def test_wet():
            pass
        """
    )
    result = suite.run()
    result.stdout.fnmatch_lines(["*mark carthage_needs: no fault 'rain'; there are: loss, delay*"])


def test_storm_of_a_failed_test_is_told_with_its_seed(suite: Suite) -> None:
    suite.write(
        test_it="""
        from pytest_carthage import faults

        def test_in_a_storm(pair):
            storm = faults.storm(pair, seed=11, for_s=60, per_s=20, lasts_s=(30, 30))
            while len(storm.done) < 3:
                pass
            with storm:
                assert not "on purpose"

        def test_forgets_its_storm(pair):
            faults.storm(pair, seed=12, for_s=60, per_s=20, lasts_s=(30, 30))
            assert False

        def test_after(pair):
            assert pair.one.ping("two", timeout_s=20)
            assert pair.one.run("true").ok
        """
    )
    result = suite.run("--carthage-name=stormy")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*this was in a storm of 60 s, seed 11, * faults*"])
    folder = suite.bundle("test_it.py.test_in_a_storm")
    (storm, *begun) = json.loads((folder / "stormy-pair/faults.json").read_text())
    assert (storm["what"], storm["seed"]) == ("storm seed 11", 11)
    assert len(storm["schedule"]) == 14
    assert len(begun) >= 3
    assert all(fault["part_of"] == "storm seed 11" for fault in begun)
    assert all(fault["began_s"] <= fault["healed_s"] for fault in begun)
    forgotten = suite.bundle("test_it.py.test_forgets_its_storm")
    assert "storm seed 12" in (forgotten / "events.txt").read_text()


def test_what_this_host_can_do_is_found_by_trying() -> None:
    assert probing.lacking(probing.CAPABILITIES) == []


def test_what_lacks_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        found: Mapping[str, str | None] = {"loss": "there is no nft (Debian package nftables)"}
        return subprocess.CompletedProcess(argv, 0, json.dumps(found), "")

    monkeypatch.setattr(probing, "_tried", {})
    monkeypatch.setattr(subprocess, "run", run)
    (problem,) = probing.lacking(["loss"])
    assert str(problem) == (
        "faults: loss cannot be done on this host: there is no nft (Debian package nftables); "
        "try: apt-get install nftables"
    )
    assert problem.packages == ("nftables",)


LACKING = """
import pytest
from pytest_carthage import HostError
from pytest_carthage.errors import Problem

LACK = HostError([Problem(who="lab", what="no spectrum analyser", remedy="buy one")])

@pytest.fixture
def analyser(pair):
    raise LACK

def test_in_its_body(pair):
    raise LACK

def test_in_a_fixture(analyser):
    pass
"""


def test_what_the_host_lacks_skips_the_test_that_asks_for_it(suite: Suite) -> None:
    suite.write(test_it=LACKING)
    result = suite.run()
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        [
            "  lab: no spectrum analyser; try: buy one",
            "  2 tests not run",
            "SKIPPED * test_it.py:*: this host lacks:",
            "  lab: no spectrum analyser; try: buy one",
        ]
    )


def test_what_the_host_lacks_fails_the_test_where_that_is_strict(suite: Suite) -> None:
    suite.write(test_it=LACKING)
    suite.run("--carthage-strict").assert_outcomes(failed=1, errors=1)


@pytest.mark.parametrize("strict", [False, True])
def test_text_of_screens_is_asked_for_before_anything_is_built(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    from pytest_carthage.screens import recognition

    suite.write(
        test_it="""
        import pytest

        @pytest.mark.carthage_needs("screen_text")
        def test_it(pair):
            pass
        """
    )
    monkeypatch.setattr(recognition, "_PROGRAM", "no-such-tesseract")
    result = suite.run(*["--carthage-strict"][: int(strict)])
    result.assert_outcomes(errors=1) if strict else result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*test_it cannot be run here: screens: text*tesseract*try: apt install tesseract-ocr*"]
    )
    assert "starting" not in str(result.stdout)
    monkeypatch.setattr(recognition, "_PROGRAM", "true")
    suite.run(*["--carthage-strict"][: int(strict)]).assert_outcomes(passed=1)
