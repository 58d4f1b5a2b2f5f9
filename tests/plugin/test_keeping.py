"""Keeping environments: what stays, what the summary says of it, and how it goes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.plugin import summary
from tests.plugin.conftest import Suite

TWO_LAYOUTS = {
    "conftest": "other = Pair.fixture()",
    "test_it": """
    def test_good(pair): pass
    def test_bad(other): assert not other.one.name
    """,
}


def test_keep_on_fail_keeps_the_failed_tests_layout_only(suite: Suite) -> None:
    suite.write(**TWO_LAYOUTS)
    result = suite.run("--keep-on-fail", "--carthage-name=keep", "--keep-for=90m")
    result.assert_outcomes(passed=1, failed=1)
    (kept,) = suite.alive
    assert kept.kept
    assert kept.name == "keep-pair-2"
    assert kept.expires_at is not None
    assert 5300 < kept.expires_at - time.time() < 5400
    result.stdout.fnmatch_lines(
        [
            "*kept environments*",
            "keep-pair-2: one, two; stays for 1 h 30 min (until *)",
            "  get in:  pytest-carthage shell keep-pair-2/one",
            "  remove:  pytest-carthage rm keep-pair-2",
        ]
    )
    assert main(["rm", "keep-pair-2"]) == 0
    assert suite.alive == []


NEVER_READY = """
from pytest_carthage import port

class Late(Layout):
    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")}, command="echo hello; sleep 999",
                  wait_for=port(80), ready_timeout_s=0.2)
    two = Machine(links={"eth0": lan.at(".2")}, after=[one])

late = Late.fixture()

class Broken(Layout):
    one = Machine(command=["/no/such/program"])

broken = Broken.fixture()
"""


def test_layout_that_did_not_come_up_is_kept_as_far_as_it_stands(suite: Suite) -> None:
    suite.write(conftest=NEVER_READY, test_it="def test_it(late): pass\n")
    result = suite.run("--keep-on-fail", "--carthage-name=part", "--carthage-artifacts=out")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "kept, as far as it stands: pytest-carthage shell part-late/one (or exec, logs); "
            "remove: pytest-carthage rm part-late",
            "*kept environments*",
            "part-late: one, two; stays for *",
        ]
    )
    text = (suite.path / "out/test_it.py.test_it/summary.txt").read_text()
    assert "kept:\n  part-late stays for 8 h when pytest has ended; get in: " in text
    (kept,) = suite.alive
    assert kept.kept
    assert main(["exec", "part-late/one", "--", "true"]) == 0
    assert main(["logs", "part-late/one"]) == 0
    assert main(["rm", "part-late"]) == 0


def test_layout_of_which_nothing_stands_says_that_nothing_is_kept(suite: Suite) -> None:
    suite.write(conftest=NEVER_READY, test_it="def test_it(broken): pass\n")
    result = suite.run("--keep-on-fail", "--carthage-artifacts=out")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "nothing is kept: none of its machines came to life",
            "*kept environments*",
            "none: what failed used no layout that came to life",
        ]
    )
    assert suite.alive == []


def test_layout_that_did_not_come_up_is_gone_by_default(suite: Suite) -> None:
    suite.write(conftest=NEVER_READY, test_it="def test_it(late): pass\n")
    result = suite.run()
    result.assert_outcomes(errors=1)
    assert suite.alive == []
    result.stdout.no_fnmatch_line("*kept*")


def test_nothing_is_kept_by_default(suite: Suite) -> None:
    suite.write(**TWO_LAYOUTS)
    result = suite.run()
    result.assert_outcomes(passed=1, failed=1)
    assert suite.alive == []
    result.stdout.no_fnmatch_line("*kept environments*")


def test_keep_keeps_what_passed(suite: Suite) -> None:
    suite.write(test_it="def test_it(pair): pair.one.write_text('/tmp/x', 'still here')\n")
    suite.run("--keep", "--carthage-name=stays").assert_outcomes(passed=1)
    (kept,) = suite.alive
    assert kept.name == "stays-pair"
    assert not kept.owned
    assert main(["exec", "one", "--", "grep", "-q", "still here", "/tmp/x"]) == 0


def test_failed_stage_keeps_its_layout(suite: Suite) -> None:
    suite.write(
        conftest="""
        @stage
        async def imported(pair):
            raise RuntimeError("bad dump")
        """,
        test_it="def test_it(imported): pass\n",
    )
    suite.run("--keep-on-fail").assert_outcomes(errors=1)
    assert len(suite.alive) == 1


def test_failure_in_the_teardown_of_a_test_keeps_its_layout(suite: Suite) -> None:
    suite.write(
        conftest="""
        import pytest

        @pytest.fixture
        def checked(pair):
            yield pair
            assert pair.one.name == "two"
        """,
        test_it="""
        def test_it(checked): pass
        def test_last(pair): pass
        """,
    )
    suite.run("--keep-on-fail").assert_outcomes(passed=2, errors=1)
    assert len(suite.alive) == 1


def test_expected_failure_keeps_nothing(suite: Suite) -> None:
    suite.write(
        test_it="""
        import pytest

        @pytest.mark.xfail
        def test_it(pair): assert not pair
        """
    )
    suite.run("--keep-on-fail").assert_outcomes(xfailed=1)
    assert suite.alive == []


def test_kept_environment_goes_when_its_time_is_over(suite: Suite) -> None:
    suite.write(test_it="def test_it(pair): pass\n")
    suite.run("--keep", "--keep-for=1s").assert_outcomes(passed=1)
    deadline = time.monotonic() + 8
    while suite.alive and time.monotonic() < deadline:
        time.sleep(0.1)
    assert suite.alive == []


def test_name_of_a_kept_run_is_refused_with_the_cure(suite: Suite) -> None:
    suite.write(test_it="def test_it(pair): pass\n")
    suite.run("--keep", "--carthage-name=mine").assert_outcomes(passed=1)
    result = suite.run_apart("--carthage-name=mine")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: --carthage-name=mine: the run of this name still has: mine-pair; choose "
            "another name, or remove it with: pytest-carthage rm mine-pair"
        ]
    )


def test_name_can_be_used_again_at_once(suite: Suite) -> None:
    suite.write(test_it="def test_it(pair): pass\n")
    for _ in range(2):
        suite.run_apart("--carthage-name=again").assert_outcomes(passed=1)


def test_state_of_somebody_else_has_nothing_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", refuse)
    assert not summary.run_exists("mine")
