"""Progress on pytest's terminal, and what it must not disturb."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from types import MappingProxyType

import pyte
import pytest

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
            "??:??:?? carthage: lines-pair: starting (2 machines)",
            "??:??:?? carthage: lines-pair: done in * s (2 machines)",
            "test_it.py::test_it PASSED*",
            "??:??:?? carthage: lines-pair: done in * s (teardown)",
        ]
    )


def test_line_after_a_tests_letter_begins_a_line(suite: Suite) -> None:
    suite.write(test_it=QUICK)
    result = suite.run("--carthage-name=lines")
    result.stdout.fnmatch_lines(["??:??:?? carthage: lines-pair: starting (teardown)"])


class Terminal:
    """What a session has written to a terminal of 100 columns and 30 lines."""

    def __init__(self) -> None:
        self.screen = pyte.HistoryScreen(100, 30, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self._written: list[bytes] = []

    def take(self, data: bytes) -> None:
        self._written.append(data)
        self._stream.feed(data)

    @property
    def text(self) -> str:
        """All that was written."""
        return b"".join(self._written).decode()

    @property
    def lines(self) -> list[str]:
        """What a person can read in the end."""
        past = ["".join(row[at].data for at in range(100)) for row in self.screen.history.top]
        return [line.rstrip() for line in (*past, *self.screen.display) if line.strip()]


def terminal(
    suite: Suite,
    *arguments: str,
    xdist: bool = False,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Terminal:
    """Run a session on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    shown = Terminal()

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:
                return
            if not data:
                return
            shown.take(data)

    reader = threading.Thread(target=read)
    reader.start()
    options = [option for option in suite.options(xdist=xdist) if option != "--color=no"]
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR")
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=suite.path,
        env={**inherited, "TERM": "xterm-256color", **environ},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    os.close(theirs)
    reader.join(5)
    os.close(ours)
    return shown


def on_terminal(suite: Suite, *arguments: str) -> str:
    """All that a session writes to a terminal."""
    return terminal(suite, *arguments).text


#: a busy machine takes long to load what draws
AT_ONCE = """
import time
import rich.console, rich.table
from pytest_carthage.report import display

display.DELAY_S = 0.0
"""
SLOW = f"""
{AT_ONCE}

@stage
def imported(pair):
    print("printed by the stage")
    time.sleep(1.0)
"""


def test_terminal_gets_a_table_that_goes_away(suite: Suite) -> None:
    suite.write(conftest=SLOW, test_it="def test_it(imported): pass\n")
    shown = terminal(suite, "--carthage-name=table")
    assert "0 of 1 done" in shown.text
    assert "\x1b[?25l" not in shown.text, "who is killed here leaves a terminal with a cursor"
    begin = shown.lines.index("test_it.py")
    times = [re.sub(r"\d+\.\d+", "?", line.strip()) for line in shown.lines[begin:]]
    assert times == [
        "test_it.py",
        "carthage: table-pair: done in ? s (2 machines)",
        "carthage: table-pair: stage imported: done in ? s",
        "test_it.py .",
        "carthage: table-pair: done in ? s (teardown)",
        "[100%]",
        times[-1],
    ]
    assert "1 passed in" in times[-1]
    assert "printed by the stage" not in shown.text


FAULT = """
import time

def test_quick(pair): pass

def test_outage(pair):
    with pair.one.link("eth0").down():
        time.sleep({time_s})

def test_last(pair): pass
"""


def test_fault_is_told_when_it_happens_below_the_test_that_it_belongs_to(suite: Suite) -> None:
    suite.write(test_it=FAULT.format(time_s=0.1))
    suite.run("-v", "--carthage-name=lines").stdout.fnmatch_lines(
        [
            "test_it.py::test_quick PASSED*",
            "test_it.py::test_outage *",
            "*carthage: lines-pair: fault link one.eth0 down: in force",
            "*carthage: lines-pair: fault link one.eth0 down: done in * s (healed)",
            "test_it.py::test_outage PASSED*",
            "test_it.py::test_last PASSED*",
        ],
        consecutive=True,
    )
    suite.run("--carthage-name=again").stdout.fnmatch_lines(
        [
            "test_it.py .",
            "carthage: in test_it.py::test_outage:",
            "*carthage: again-pair: fault link one.eth0 down: in force",
            "*carthage: again-pair: fault link one.eth0 down: done in * s (healed)",
            "test_it.py ..",
        ],
        consecutive=True,
    )


def test_fault_is_in_the_table_while_it_lasts(suite: Suite) -> None:
    suite.write(conftest=AT_ONCE, test_it=FAULT.format(time_s=1.0))
    shown = terminal(suite)
    assert re.search(
        r"test_it\.py::test_outage.*fault link one\.eth0 down.*in force", shown.text, re.DOTALL
    )
    assert [line for line in shown.lines if line.startswith("test_it.py")][-1] == "test_it.py ..."
    assert "in force" not in "\n".join(shown.lines)


def test_progress_is_written_before_the_test_ends(suite: Suite) -> None:
    suite.write(
        test_it="""
        import pathlib, time

        def test_it(pair):
            with pair.one.link("eth0").down():
                deadline = time.monotonic() + 30
                while "in force" not in pathlib.Path("log").read_text():
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        """
    )
    with (suite.path / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *suite.options()],
            stdout=log,
            cwd=suite.path,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, (suite.path / "log").read_text()


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [(("--capture=tee-sys",), {}), ((), {"CI": "true"}), ((), {"TERM": "dumb"})],
)
def test_terminal_that_others_write_to_or_nobody_looks_at_gets_lines(
    suite: Suite, arguments: tuple[str, ...], environ: dict[str, str]
) -> None:
    suite.write(conftest=SLOW, test_it="def test_it(imported): pass\n")
    text = terminal(suite, *arguments, environ=environ).text
    assert "of 1 done" not in text
    assert re.search(r"\d\d:\d\d:\d\d carthage: \w+-pair: stage imported: starting", text)


@pytest.mark.parametrize("off", [("--color=no", {}), ("--color=auto", {"NO_COLOR": "1"})])
def test_table_has_no_colors_where_pytest_has_none(
    suite: Suite, off: tuple[str, dict[str, str]]
) -> None:
    suite.write(conftest=SLOW, test_it="def test_it(imported): pass\n")
    option, environ = off
    text = terminal(suite, option, environ=environ).text
    assert "0 of 1 done" in text
    assert not re.search(r"\x1b\[[\d;]+m", text)


@pytest.mark.parametrize("option", ["-q", "-qq"])
def test_quiet_terminal_has_nothing_of_ours(suite: Suite, option: str) -> None:
    suite.write(conftest=SLOW, test_it="def test_it(imported): pass\n")
    assert "imported" not in terminal(suite, option).text


def test_terminal_without_capture_gets_lines(suite: Suite) -> None:
    suite.write(conftest=SLOW, test_it="def test_it(imported): pass\n")
    text = on_terminal(suite, "-s")
    assert "printed by the stage" in text
    assert "stage imported: done in" in text
    assert "\x1b[2K" not in text


def test_what_is_quick_is_not_drawn(suite: Suite) -> None:
    suite.write(
        conftest="""
        from pytest_carthage.report import display

        display.DELAY_S = 30.0  # a busy machine is slow
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
