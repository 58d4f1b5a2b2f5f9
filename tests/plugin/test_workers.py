"""With pytest-xdist: one run, an environment per worker, one summary."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.plugin.conftest import Suite, wait_until_clean
from tests.plugin.test_screen import terminal

pytest.importorskip("xdist")

NAMES = """
import time

def note(layout):
    with open("names", "a") as file:
        file.write(layout.name + "\\n")
    time.sleep(0.3)  # so that both workers get one

def test_first(pair): note(pair)
def test_second(pair): note(pair)
"""


def names(suite: Suite) -> list[str]:
    return sorted((suite.path / "names").read_text().split())


def test_workers_share_the_run_and_have_environments_of_their_own(suite: Suite) -> None:
    suite.write(test_it=NAMES)
    result = suite.run_apart("-n2", "--carthage-name=shared", xdist=True)
    result.assert_outcomes(passed=2)
    assert names(suite) == ["shared-pair-gw0", "shared-pair-gw1"]
    assert wait_until_clean() == []


def test_new_run_name_is_the_same_in_all_workers(suite: Suite) -> None:
    suite.write(test_it=NAMES)
    suite.run_apart("-n2", xdist=True).assert_outcomes(passed=2)
    first, second = (name.partition("-")[0] for name in names(suite))
    assert first == second


def test_failure_that_shows_bytes_which_are_no_text_is_told(suite: Suite) -> None:
    suite.write(test_it="def test_it(): assert 'caf\\udce9' == 'coffee'\n")
    result = suite.run_apart("-n1", xdist=True)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*caf\\udce9*"])


def test_summary_tells_what_workers_kept(suite: Suite) -> None:
    suite.write(
        test_it=NAMES.replace(
            "def test_second(pair): note(pair)",
            """
def test_second(pair):
    note(pair)
    assert not pair
""",
        )
    )
    result = suite.run_apart("-n2", "--keep-on-fail", "--carthage-name=kept", xdist=True)
    result.assert_outcomes(passed=1, failed=1)
    (kept,) = suite.alive
    result.stdout.fnmatch_lines(
        [
            "*- carthage -*",
            "artifacts: *test_it.py.test_second",
            "*kept environments*",
            f"{kept.name}: one, two; stays for * (until *)",
            f"  get in:  pytest-carthage shell {kept.name}/one",
        ]
    )


PROGRESS = """
import pathlib, time

def wait_until(text):
    deadline = time.monotonic() + 40
    while text not in pathlib.Path("log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)

def test_left(pair):
    with pair.one.link("eth0").down():
        wait_until("progress-pair-gw1: done in")
        wait_until("progress-pair-gw0: fault link one.eth0 down: in force")

def test_right(pair):
    wait_until("progress-pair-gw0: done in")
    wait_until("progress-pair-gw0: fault link one.eth0 down: done in")
"""


def test_controller_tells_what_all_workers_do_while_they_do_it(suite: Suite) -> None:
    suite.write(test_it=PROGRESS)
    with (suite.path / "log").open("w") as log:
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", *suite.options(xdist=True),
                "-n2", "--carthage-name=progress",
            ],
            stdout=log,
            cwd=suite.path,
            timeout=90,
            check=False,
        )  # fmt: skip
    text = (suite.path / "log").read_text()
    assert done.returncode == 0, text
    for worker in ("gw0", "gw1"):
        name = f"progress-pair-{worker}"
        own = re.findall(rf"^\d\d:\d\d:\d\d carthage: {name}: (.*)", text, re.MULTILINE)
        assert own[0] == "starting (2 machines)"
        assert re.fullmatch(r"done in .* s \(teardown\)", own[-1])
        assert sum(line.startswith(("one: done", "two: done")) for line in own) == 2
    assert "\ncarthage: in test_it.py::test_left:\n" in text
    assert not re.search(r"[^\n ]\d\d:\d\d:\d\d carthage", text), "each line begins a line"


def test_controller_draws_one_table_on_a_terminal(suite: Suite) -> None:
    suite.write(
        conftest="""
        import time

        @stage
        def imported(pair):
            time.sleep(3)
        """,
        test_it="""
        def test_left(imported): pass
        def test_right(imported): pass
        """,
    )
    shown = terminal(suite, "-n2", "--carthage-name=table", xdist=True)
    assert re.search(r"table-pair-gw0.*table-pair-gw1.* of \d done", shown.text, re.DOTALL)
    text = "\n".join(shown.lines)
    for worker in ("gw0", "gw1"):
        assert len(re.findall(rf"^carthage: table-pair-{worker}: done", text, re.MULTILINE)) == 2
        assert text.count(f"carthage: table-pair-{worker}: stage imported: done in") == 1
    assert "starting" not in text
    assert " of " not in text.partition("items]")[2]
    assert "2 passed in" in shown.lines[-1]


def test_quiet_controller_is_silent(suite: Suite) -> None:
    suite.write(test_it=NAMES)
    result = suite.run_apart("-n2", "-q", xdist=True)
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*carthage*")


def test_reason_of_a_skip_reaches_the_summary(suite: Suite) -> None:
    suite.write(
        conftest="""
        from pytest_carthage.errors import Problem
        from pytest_carthage.providers.netns import NetnsProvider

        class Lacking(NetnsProvider):
            kind = "lacking"

            def check(self, plan=None):
                return [Problem(who="lacking", what="no such tool", remedy="install the tool")]

        def pytest_carthage_providers():
            return {"lacking": Lacking}
        """,
        test_it=NAMES,
    )
    result = suite.run_apart("-n2", "--carthage-target=lacking", xdist=True)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*layouts that this host cannot build*",
            "  lacking: no such tool; try: install the tool",
            "  2 tests not run",
        ]
    )


def test_cycle_is_reported_by_workers_too(suite: Suite) -> None:
    suite.write(
        conftest="""
        @stage
        async def imported(pair, production): pass

        @stage
        async def production(imported): pass
        """,
        test_it="def test_it(production): pass\n",
    )
    result = suite.run_apart("-n2", xdist=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: these wait for each other, so that none can begin:",
            "  stage '*",
        ]
    )


def test_killed_worker_leaves_nothing(suite: Suite) -> None:
    suite.write(
        test_it="""
        import os, signal

        def test_it(pair):
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    result = suite.run_apart("-n1", "--max-worker-restart=0", xdist=True)
    result.assert_outcomes(failed=1)
    assert wait_until_clean() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_controller_ends_workers_in_good_order(
    suite: Suite, number: signal.Signals
) -> None:
    suite.write(
        test_it="""
        import time

        def test_bad(pair):
            with open("failed", "w"):
                raise RuntimeError

        def test_long(pair):
            time.sleep(2)

        def test_next(pair):
            time.sleep(60)
        """
    )
    arguments = [*suite.options(xdist=True), "-n1", "--keep-on-fail", "--carthage-name=ended"]
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=suite.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        deadline = time.monotonic() + 60
        while not (suite.path / "failed").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "kept environments" in output
    assert [one.name for one in suite.alive] == ["ended-pair-gw0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_to_the_controller_is_a_hard_stop_with_a_list(
    suite: Suite, number: signal.Signals
) -> None:
    suite.write(
        test_it="""
        import time

        def test_long(pair):
            open("begun", "w").close()
            time.sleep(60)
        """
    )
    arguments = [*suite.options(xdist=True), "-n1", "--carthage-name=hard"]
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=suite.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        deadline = time.monotonic() + 60
        while not (suite.path / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        time.sleep(0.5)  # it waits for its worker by now
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "carthage: hard stop; the supervisor now removes:\n  hard-pair-gw0: one, two\n" in output
    assert "Traceback" not in output
    assert wait_until_clean() == []


def test_signal_to_a_controller_without_layouts_is_what_it_always_was(suite: Suite) -> None:
    suite.write(
        test_it="""
        import os, signal, time

        def test_it():
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(1)
        """
    )
    result = suite.run_apart("-n1", xdist=True)
    assert result.ret == -signal.SIGTERM
