"""Tracebacks end in the author's code."""

from __future__ import annotations

import pytest

from pytest_carthage.errors import CarthageError
from pytest_carthage.plugin import tracebacks
from pytest_carthage.reference.durations import duration_s
from pytest_carthage.report.bundle.whereabouts import Whereabouts
from tests.plugin.conftest import Suite

WRONG = """
import pytest

def test_value(pair):
    pair.one.run([])

def test_file(pair):
    pair.one.get("/none", "back")

def test_host(pair, tmp_path):
    pair.one.get("/etc/hosts", tmp_path / "no" / "folder")

def test_name(pair):
    pair.frobnicator

def test_address(pair):
    pair.one.address("wan")

def test_limit(pair):
    from pytest_carthage import file
    pair.one.wait_for(file("/none"), timeout_s=0.1)
"""
TESTS = 6


def test_error_that_was_meant_ends_in_the_test(suite: Suite) -> None:
    suite.write(test_it=WRONG)
    result = suite.run("-p", "no:cacheprovider")
    result.assert_outcomes(failed=TESTS)
    text = result.stdout.str()
    assert "pytest_carthage/bridge.py" not in text
    assert "pytest_carthage/portal.py" not in text
    assert text.count("\ntest_it.py:") == TESTS, "each ends there"
    suite.run("--full-trace").stdout.fnmatch_lines(["*pytest_carthage/bridge.py:*"])


def test_hooks_of_other_plugins_are_left_out_of_what_a_fixture_met(suite: Suite) -> None:
    suite.write(
        other="""
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_fixture_setup(fixturedef):
            return (yield)
        """,
        stages="""
        from pytest_carthage import stage

        @stage
        def prepared(pair):
            pair.one.run("exit 3")
        """,
        test_it="""
        from stages import prepared

        def test_it(prepared): ...
        """,
    )
    result = suite.run_apart("-p", "other")
    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    assert "pytest_fixture_setup" not in text
    assert "\nstages.py:6: CommandError" in text


def test_debugger_begins_in_the_test(suite: Suite) -> None:
    suite.write(
        probe="""
        import pdb

        class Probe(pdb.Pdb):
            def interaction(self, frame, trace):
                self.setup(frame, trace)
                print("first frame:", self.curframe.f_code.co_name)
                self.forget()
        """,
        test_it=WRONG,
    )
    result = suite.run_apart("--pdb", "--pdbcls=probe:Probe", "-s")
    names = [line.split()[-1] for line in result.outlines if line.startswith("first frame:")]
    assert names == [
        "test_value",
        "test_file",
        "test_host",
        "test_name",
        "test_address",
        "test_limit",
    ]


def caught(function: object, *arguments: object) -> pytest.ExceptionInfo[BaseException]:
    with pytest.raises(BaseException) as info:
        function(*arguments)  # type: ignore[operator]
    return info


def names(info: pytest.ExceptionInfo[BaseException]) -> list[str]:
    return [entry.name for entry in info.traceback]


def test_what_a_line_of_ours_has_met_is_shown_with_it() -> None:
    info = caught(Whereabouts().add, "name", None, None, {})  # None is no folder
    assert isinstance(info.value, TypeError)
    assert tracebacks.shorten(info) is info
    assert names(info)[-1] == "add"


def test_what_ours_refuses_ends_with_who_asked() -> None:
    info = caught(duration_s, "soon")
    assert names(info)[-1] == "duration_s"
    assert names(tracebacks.shorten(info)) == ["caught"]


def test_error_of_an_author_below_ours_is_shown_with_all() -> None:
    def author() -> None:
        raise ValueError("theirs")

    info = caught(author)
    assert tracebacks.shorten(info) is info


def test_error_of_ours_keeps_the_authors_frames_alone() -> None:
    def author() -> None:
        raise CarthageError("ours")

    assert names(tracebacks.shorten(caught(author))) == ["caught", "author"]
