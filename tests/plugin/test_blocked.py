"""Tests that could not be tried are errors of their own kind, for whoever reads the results."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from tests.plugin.conftest import Suite

STAGE = """
@stage
def deployed(pair):
    with open("deployed", "a") as file:
        file.write("x")
    raise RuntimeError("no release")
"""
TESTS = """
def test_first(deployed): pass
def test_second(deployed): pass
def test_third(deployed): pass
def test_other(pair): pass
"""
MESSAGE = (
    "blocked by stage 'deployed', which failed in test_it.py::test_first: RuntimeError: no release"
)


def runs(suite: Suite) -> int:
    """How often the stage was run."""
    return len((suite.path / "deployed").read_text())


def numbers(result: pytest.RunResult) -> dict[str, int]:
    return {kind: number for kind, number in result.parseoutcomes().items() if kind != "warnings"}


def test_blocked_tests_have_a_letter_a_number_and_a_section_with_the_cause(suite: Suite) -> None:
    suite.write(conftest=STAGE, test_it=TESTS)
    result = suite.run("-rfE")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert numbers(result) == {"errors": 1, "blocked": 2, "passed": 1}
    result.stdout.fnmatch_lines(
        [
            "*E*",
            "*BB.*",
            "*= ERRORS =*",
            "*= blocked tests =*",
            "blocked by stage 'deployed': 2 tests",
            "  it failed in test_it.py::test_first: RuntimeError: no release",
            "*= short test summary info =*",
            "ERROR test_it.py::test_first - RuntimeError: no release",
        ]
    )
    result.stdout.no_fnmatch_line("*SKIPPED*")
    result.stdout.no_fnmatch_line("*test_second*")
    assert result.stdout.str().count("*ERROR at") == result.stdout.str().count("*ERROR at setup")
    assert "no tests" not in result.stdout.str()


@pytest.mark.parametrize("option", ["-v", "-ra", "-rA"])
def test_blocked_tests_are_named_for_whoever_wants_to_read_them(suite: Suite, option: str) -> None:
    suite.write(conftest=STAGE, test_it=TESTS)
    result = suite.run("-rf", option)
    result.stdout.fnmatch_lines(
        [
            "*= blocked tests =*",
            *(f"  BLOCKED test_it.py::{name}" for name in ("test_second", "test_third")),
        ]
    )
    if option == "-v":
        result.stdout.fnmatch_lines(["test_it.py::test_second BLOCKED*"])


def test_junit_file_has_blocked_tests_as_errors_with_their_cause(suite: Suite) -> None:
    suite.write(conftest=STAGE, test_it=TESTS)
    suite.run("--junitxml=junit.xml")
    (results,) = ElementTree.parse(suite.path / "junit.xml").getroot()
    assert {name: results.get(name) for name in ("errors", "failures", "skipped", "tests")} == {
        "errors": "3",
        "failures": "0",
        "skipped": "0",
        "tests": "4",
    }
    errors = {case.get("name"): case.find("error") for case in results.iter("testcase")}
    second = errors["test_second"]
    assert second is not None
    assert MESSAGE in second.get("message", "")


def test_last_failed_runs_blocked_tests_again(suite: Suite) -> None:
    suite.write(conftest=STAGE, test_it=TESTS)
    suite.run()
    failed = json.loads((suite.path / ".pytest_cache/v/cache/lastfailed").read_text())
    assert sorted(failed) == [
        f"test_it.py::{name}" for name in ("test_first", "test_second", "test_third")
    ]


def test_blocked_tests_do_not_count_for_maxfail(suite: Suite) -> None:
    suite.write(
        conftest=STAGE,
        test_it=f"{TESTS}\ndef test_bad(): assert not 1\ndef test_never(): pass\n",
    )
    result = suite.run("--maxfail=2")
    assert numbers(result) == {"errors": 1, "blocked": 2, "passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["*stopping after 2 failures*"])


def test_first_failure_stops_a_session_that_wants_it(suite: Suite) -> None:
    suite.write(conftest=STAGE, test_it=TESTS)
    assert numbers(suite.run("-x")) == {"errors": 1}


def test_expected_failure_of_a_blocked_test_has_not_been_seen(suite: Suite) -> None:
    suite.write(
        conftest=STAGE,
        test_it="""
        import pytest

        def test_first(deployed): pass

        @pytest.mark.xfail(strict=True)
        def test_second(deployed): assert False
        """,
    )
    assert numbers(suite.run()) == {"errors": 1, "blocked": 1}


def test_layout_that_a_test_asks_for_while_it_runs_blocks_it_too(suite: Suite) -> None:
    suite.write(
        conftest=STAGE,
        test_it="""
        def test_first(request): request.getfixturevalue("deployed")
        def test_second(request): request.getfixturevalue("deployed")
        def test_third(deployed): pass
        """,
    )
    result = suite.run("-rf")
    assert numbers(result) == {"failed": 1, "blocked": 2}
    assert result.stdout.str().count("E       RuntimeError: no release") == 1


def test_debugger_stops_at_the_cause_only(suite: Suite) -> None:
    suite.write(
        conftest=STAGE
        + """
import pdb

class Quiet(pdb.Pdb):
    def interaction(self, *arguments):
        print("a debugger")
""",
        test_it=TESTS,
    )
    result = suite.run("--pdb", "--pdbcls=conftest:Quiet")
    assert numbers(result) == {"errors": 1, "blocked": 2, "passed": 1}
    assert result.stdout.str().count("a debugger") == 1


def test_blocked_tests_have_no_bundle_and_no_rerun_of_their_own(suite: Suite) -> None:
    pytest.importorskip("pytest_rerunfailures")
    suite.write(conftest=STAGE, test_it=TESTS)
    result = suite.run("-prerunfailures", "--reruns=2")
    assert numbers(result) == {"errors": 1, "blocked": 2, "passed": 1, "rerun": 2}
    assert runs(suite) == 3
    assert suite.summary("test_it.py.test_first")["phase"] == "setup"
    assert len(list(suite.path.joinpath(".pytest_cache/d/carthage").glob("*/*"))) == 1


def test_workers_agree_and_the_cause_is_shown_in_full_once(suite: Suite) -> None:
    pytest.importorskip("xdist")
    suite.write(
        conftest=STAGE.replace("raise", "import time; time.sleep(0.5); raise"),
        test_it="\n".join(f"def test_{number}(deployed): pass" for number in range(6)),
    )
    result = suite.run_apart("-n2", "-rfE", "--junitxml=junit.xml", "--maxfail=2", xdist=True)
    assert runs(suite) == 2
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert numbers(result) == {"errors": 1, "blocked": 5}
    text = result.stdout.str()
    assert text.count("ERROR at setup of") == 1
    assert text.count("blocked by stage 'deployed': 5 tests") == 1
    (results,) = ElementTree.parse(suite.path / "junit.xml").getroot()
    assert (results.get("errors"), results.get("skipped")) == ("6", "0")
