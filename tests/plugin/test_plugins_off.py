"""pytest's own plugins can be switched off, one by one and together."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Suite
from tests.plugin.test_screen import on_terminal

#: those that pytest itself can do without
OFF = (
    "terminal",
    "capture",
    "cacheprovider",
    "assertion",
    "skipping",
    "debugging",
    "junitxml logging faulthandler tmpdir monkeypatch recwarn pastebin stepwise warnings doctest "
    "unittest setuponly setupplan legacypath unraisableexception threadexception",
)


@pytest.mark.parametrize("plugins", [*OFF, " ".join(OFF)])
def test_session_without_a_plugin_has_the_results_that_others_have(
    suite: Suite, plugins: str
) -> None:
    suite.write(
        conftest="""
        @stage
        def imported(pair):
            raise RuntimeError("no data")
        """,
        test_it="""
        import pytest

        def test_good(pair): pass
        def test_bad(pair): assert pair.one.name == "two"
        def test_first(imported): pass
        def test_second(imported): pass
        """,
    )
    off = [f"-pno:{plugin}" for plugin in plugins.split()]
    options = [option for option in suite.options() if option not in ("-ra", "--color=no")]
    recorded = suite.pytester.inline_run(*options, *off, "--keep-on-fail")
    assert recorded.ret == pytest.ExitCode.TESTS_FAILED
    outcomes = {
        (report.nodeid.partition("::")[2], report.when, report.outcome)
        for report in recorded.getreports("pytest_runtest_logreport")
        if report.when != "teardown" and not (report.when == "setup" and report.passed)
    }
    assert outcomes == {
        ("test_good", "call", "passed"),
        ("test_bad", "call", "failed"),
        ("test_first", "setup", "failed"),
        ("test_second", "setup", "failed"),
    }
    assert len(suite.alive) == 1


def test_terminal_without_capture_plugin_gets_lines(suite: Suite) -> None:
    suite.write(test_it="def test_it(pair): print('printed by the test')\n")
    text = on_terminal(suite, "-pno:capture")
    assert "printed by the test" in text
    assert "\x1b[2K" not in text
