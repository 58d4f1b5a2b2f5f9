"""Progress on pytest's terminal, and what it must not disturb."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading

from tests.plugin.conftest import Suite

QUICK = "def test_it(pair): pass\n"


def test_quiet_is_silent(suite: Suite) -> None:
    suite.write(test_it=QUICK)
    result = suite.run("-q")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*carthage:*")


def test_capture_is_not_disturbed(suite: Suite) -> None:
    suite.write(
        conftest="""
        import os

        @stage
        def imported(pair):
            print("printed by the stage")
            os.write(1, b"written by the stage\\n")
            return 1
        """,
        test_it="""
        def test_it(imported, pair, capsys):
            print("printed by the test")
            pair.remove("two")
            out, err = capsys.readouterr()
            assert out == "printed by the test\\n"
            assert err == ""

        def test_bad(imported):
            print("kept for the report")
            assert imported == 2
        """,
    )
    result = suite.run_apart()
    result.assert_outcomes(passed=1, failed=1)
    lines = result.stdout.lines
    assert "printed by the stage" not in lines
    assert "written by the stage" not in lines
    result.stdout.fnmatch_lines(["*Captured stdout call*", "kept for the report"])


def test_lines_stand_between_pytests_own(suite: Suite) -> None:
    suite.write(test_it=QUICK)
    result = suite.run("-v", "--carthage-name=lines")
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_it *",
            "carthage: lines-pair: started (2 machines)",
            "carthage: lines-pair: done in * s (2 machines)",
            "test_it.py::test_it PASSED*",
            "carthage: lines-pair: done in * s (teardown)",
        ]
    )


def test_line_after_a_tests_letter_begins_a_line(suite: Suite) -> None:
    suite.write(test_it=QUICK)
    result = suite.run("--carthage-name=lines")
    result.stdout.fnmatch_lines(["carthage: lines-pair: started (teardown)"])


def on_terminal(suite: Suite, *arguments: str) -> str:
    """What a session writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:
                return
            if not data:
                return
            written.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    options = [option for option in suite.options() if option != "--color=no"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=suite.path,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    os.close(theirs)
    reader.join(5)
    os.close(ours)
    return b"".join(written).decode()


SLOW = """
import time

@stage
def imported(pair):
    print("printed by the stage")
    time.sleep(1.2)
"""


def test_terminal_gets_a_table_that_goes_away(suite: Suite) -> None:
    suite.write(conftest=SLOW, test_it="def test_it(imported): pass\n")
    text = on_terminal(suite, "--carthage-name=table")
    assert "stage imported" in text
    assert "0 of 1 done" in text
    assert "\x1b[2K" in text  # erased again
    assert "carthage: table-pair: stage imported: done in 1.2" in text
    assert "carthage: table-pair: done in " in text
    assert "printed by the stage" not in text
    assert "table-pair: one:" not in text
    assert text.count("\x1b[?25h") >= text.count("\x1b[?25l")


def test_terminal_without_capture_gets_lines(suite: Suite) -> None:
    suite.write(conftest=SLOW, test_it="def test_it(imported): pass\n")
    text = on_terminal(suite, "-s")
    assert "printed by the stage" in text
    assert "\x1b[2K" not in text


def test_what_is_quick_is_not_drawn(suite: Suite) -> None:
    suite.write(
        conftest="""
        from pytest_carthage.report.table import Table

        Table.__init__.__kwdefaults__["delay_s"] = 30.0  # a busy machine is slow
        """,
        test_it="""
        import sys

        def test_it(pair):
            assert "rich.live" not in sys.modules
        """,
    )
    text = on_terminal(suite, "-pno:rich")
    assert "machines)" in text


def test_debugger_has_the_terminal_for_itself(suite: Suite) -> None:
    suite.write(
        conftest="""
        import pdb, time

        class Quiet(pdb.Pdb):
            def interaction(self, *arguments):
                time.sleep(1.0)
                print("nobody draws here")
                self.set_continue()

        @stage
        def imported(pair):
            breakpoint()
        """,
        test_it="def test_it(imported): pass\n",
    )
    text = on_terminal(suite, "--pdbcls=conftest:Quiet")
    assert "nobody draws here" in text
    assert "of 1 done" not in text.partition("PDB set_trace")[2].partition("nobody draws here")[0]
