"""``--carthage-use``: tests against an environment that stands."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from tests.plugin.conftest import Suite

pytestmark = pytest.mark.real

STAGES = """
@stage
async def imported(pair):
    await pair.one.aio.run("echo imported >> /tmp/ran")
    return {"rows": 3}

@stage
def production(pair, imported):
    assert imported == {"rows": 3}
    pair.one.run("echo production >> /tmp/ran")
    pair.add(Machine(links={"eth0": Pair.lan.at("auto")}), name="till")
"""
TESTS = """
def test_it(pair, production):
    assert pair.one.ping("till") < 5
"""
RAN = """
def test_ran(pair, production):
    assert pair.one.read_text("/tmp/ran").split() == {ran!r}
"""


def _stand(suite: Suite, name: str = "st", **files: str) -> None:
    """Have an environment of this name stand."""
    files = {
        "conftest": "from pytest_carthage import Machine\n" + STAGES,
        "test_it": TESTS,
        **files,
    }
    suite.write(**files)
    suite.run("--keep", f"--carthage-name={name}").assert_outcomes(passed=1)


def _replace(suite: Suite, old: str, new: str) -> None:
    path = suite.path / "conftest.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_environment_is_used_with_what_was_added_and_stays(suite: Suite) -> None:
    _stand(suite)
    (before,) = suite.alive
    suite.write(
        test_it="""
        import pytest
        from pytest_carthage import Machine

        def test_all_of_it(pair, production, imported):
            assert imported == {"rows": 3}
            assert [machine.name for machine in pair] == ["one", "two", "till"]
            assert pair.one.ping("till") < 5
            assert pair.one.read_text("/tmp/ran").split() == ["imported", "production"]

        def test_operations(pair):
            pair.two.restart()
            with pair.one.link("eth0").down(), pytest.raises(OSError):
                pair.two.ping("one", timeout_s=0.2)
            with pair.capture("lan") as capture:
                pair.two.ping("one")
            assert capture.packets
            more = pair.add(Machine(links={"eth0": pair.lan.at("auto")}), name="more")
            assert more.ping("till") < 5
            pair.remove("till")
        """
    )
    result = suite.run("--carthage-use=st-pair")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*carthage: st-pair: done in * s (taken up, 3 machines)",
            "*carthage: st-pair: stage imported: cached in * s (ran *)",
            "*carthage: st-pair: stage production: cached in * s (ran *)",
            "*kept environments*",
            "st-pair: one, two, more; stays for *",
        ]
    )
    result.stdout.no_fnmatch_line("*teardown*")
    (after,) = suite.alive
    assert after.name == before.name
    assert after.expires_at == pytest.approx(before.expires_at, abs=1)
    assert list(after.machines) == ["one", "two", "more"]
    # and once more, with who has joined and left since
    suite.write(
        test_it="""
        def test_again(pair):
            assert [machine.name for machine in pair] == ["one", "two", "more"]
            assert pair.two.ping("more") < 5
        """
    )
    suite.run("--carthage-use=st").assert_outcomes(passed=1)
    assert main(["exec", "st-pair/more", "--", "true"]) == 0


def test_stages_that_have_not_run_do(suite: Suite) -> None:
    _stand(suite, test_it="def test_it(imported): pass\n")
    suite.write(test_it=RAN.format(ran=["imported", "production"]))
    suite.run("--carthage-use=st").assert_outcomes(passed=1)
    suite.run("--carthage-use=st").assert_outcomes(passed=1)


def test_stage_runs_again_if_asked_with_its_source_of_today(suite: Suite) -> None:
    _stand(suite)
    _replace(suite, "echo imported", "echo anew")
    suite.write(test_it=RAN.format(ran=["imported", "production"]))
    result = suite.run("--carthage-use=st")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*stage imported: cached*has changed since; to run it again: --carthage-again imported)"]
    )
    suite.write(test_it=RAN.format(ran=["imported", "production", "anew"]))
    suite.run("--carthage-use=st", "--carthage-again=imported").assert_outcomes(passed=1)
    result = suite.run("--carthage-use=st")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*has changed since*")


def test_stage_that_failed_when_it_ran_again_runs_the_next_time(suite: Suite) -> None:
    _stand(suite)
    _replace(suite, "echo imported", "exit 3; echo imported")
    suite.write(test_it=RAN.format(ran=["imported", "production", "imported"]))
    suite.run("--carthage-use=st", "--carthage-again=imported").assert_outcomes(errors=1)
    _replace(suite, "exit 3; echo imported", "echo imported")
    suite.run("--carthage-use=st").assert_outcomes(passed=1)


def test_stage_runs_again_whose_value_nobody_can_keep(suite: Suite) -> None:
    conftest = """
    @stage
    def made(pair):
        pair.one.run("echo made >> /tmp/ran")
        return object()
    """
    _stand(suite, conftest=conftest, test_it="def test_it(made): pass\n")
    suite.write(
        test_it="""
        def test_it(pair, made):
            assert made is not None
            assert pair.one.read_text("/tmp/ran").split() == ["made", "made"]
        """
    )
    result = suite.run("--carthage-use=st")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*stage made: runs again: what it returned before is not known*"])


def test_stage_that_has_its_layout_by_another_stage_does_not_run_again(suite: Suite) -> None:
    conftest = """
    ran = []
    @stage
    def first(pair): return pair.name
    @stage
    def second(first): ran.append(first)
    """
    _stand(suite, conftest=conftest, test_it="def test_it(second): pass\n")
    suite.write(test_it="from conftest import ran\ndef test_it(second): assert ran == []\n")
    suite.run("--carthage-use=st").assert_outcomes(passed=1)


def test_changed_declaration_is_told_before_anything_runs(suite: Suite) -> None:
    _stand(suite)
    _replace(
        suite,
        'two = Machine(links={"eth0": lan.at(".2")})',
        'two = Machine(links={"eth0": lan.at(".3")}, command="sleep 60")\n    new = Machine()',
    )
    result = suite.run("--carthage-use=st")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --carthage-use: layout 'Pair' (fixture 'pair') is not as it was when "
            "environment 'st-pair' was built:",
            "  machine 'two': links: eth0 10.0.0.2/24 then, eth0 10.0.0.3/24 now",
            "  machine 'two': command: None then, ('/bin/sh', '-c', 'sleep 60') now",
            "  machine 'new' is new",
            "try: build it anew (pytest-carthage rm st-pair), or take the change back",
        ]
    )
    assert "test_it" not in result.stdout.str().split("collected")[1]


def test_environment_of_another_layout_is_refused(suite: Suite) -> None:
    _stand(suite)
    suite.write(
        test_it="""
        from pytest_carthage import Layout, Machine
        class Other(Layout):
            one = Machine()
        other = Other.fixture()
        def test_it(other): pass
        """
    )
    result = suite.run("--carthage-use=st")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: --carthage-use: none of these environments is of layout 'Other' (fixture "
            "'other'), which test_it.py::test_it needs: st-pair is of 'Pair' in *conftest.py; "
            "try: a further --carthage-use, or fewer tests"
        ]
    )


def test_layout_that_is_asked_for_while_a_test_runs_is_compared_too(suite: Suite) -> None:
    _stand(suite)
    _replace(suite, 'lan.at(".2")', 'lan.at(".3")')
    suite.write(test_it="def test_it(request): request.getfixturevalue('pair')\n")
    result = suite.run("--carthage-use=st")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*layout 'Pair': --carthage-use: environment 'st-pair' is of another one: machine 'two'*"]
    )


def test_two_fixtures_of_one_layout_take_an_environment_each(suite: Suite) -> None:
    suite.write(
        conftest="other = Pair.fixture()",
        test_it="""
        def test_it(pair, other):
            assert (pair.name, other.name) == ("st-pair", "st-pair-2")
        """,
    )
    suite.run("--keep", "--carthage-name=st").assert_outcomes(passed=1)
    suite.run("--carthage-use=st").assert_outcomes(passed=1)
    suite.run("--carthage-use=st-pair-2", "--carthage-use=st-pair").assert_outcomes(passed=1)
    result = suite.run("--carthage-use=st-pair-2")
    result.stderr.fnmatch_lines(
        [
            "ERROR: --carthage-use: layout 'Pair' (fixture 'other'): environment 'st-pair-2' is "
            "that of fixture 'pair' already; try: one --carthage-use for each, or fewer tests"
        ]
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "st-piar",
            "--carthage-use st-piar: no environment of this name is alive; there are: st-pair; "
            "did you mean 'st-pair'?; try: pytest-carthage up LAYOUT --stages --name NAME*",
        ),
        ("gone", "--carthage-use gone: no environment of this name is alive; there are: st-pair;*"),
    ],
)
def test_environment_that_is_not_alive_is_refused_at_once(
    suite: Suite, option: str, message: str
) -> None:
    _stand(suite)
    result = suite.run(f"--carthage-use={option}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    result.stdout.no_fnmatch_line("collected*")


def test_environment_without_one_of_its_machines_says_so(suite: Suite) -> None:
    _stand(suite)
    (listed,) = suite.alive
    from pytest_carthage.fabric.wire import client

    with client.connect(str(listed.socket)) as fabric:
        fabric.request("remove", machine="two")
    result = suite.run("--carthage-use=st")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*machine 'two' of layout 'Pair': it is gone; try: build the environment anew*"]
    )
    assert len(suite.alive) == 1


def test_machine_that_was_off_is_started_by_who_wants_it(suite: Suite) -> None:
    _stand(suite, test_it="def test_it(pair): pair.two.stop()\n")
    suite.write(
        test_it="""
        import pytest
        from pytest_carthage import FabricError
        def test_it(pair):
            with pytest.raises(FabricError, match="it is stopped; try: start()"):
                pair.two.run("true")
            pair.two.start()
            assert pair.one.ping("two") < 5
        """
    )
    suite.run("--carthage-use=st").assert_outcomes(passed=1)


def test_environment_in_use_is_refused(suite: Suite) -> None:
    _stand(suite)
    (listed,) = suite.alive
    lock = os.open(listed.folder / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"4711", 0)
        result = suite.run("--carthage-use=st")
    finally:
        os.close(lock)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --carthage-use: environment 'st-pair' is used by process 4711 now; try: when*"]
    )
    suite.run("--carthage-use=st").assert_outcomes(passed=1)


def test_environment_of_tests_that_still_run_is_refused(suite: Suite) -> None:
    suite.write(
        test_it="""
        import subprocess, sys
        def test_it(pair):
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-p", "no:xdist", f"--carthage-use={pair.name}",
                 "other.py"], capture_output=True, text=True)
            assert done.returncode == 4
            assert "belongs to process" in done.stderr and "whose tests still run" in done.stderr
        """,
        other="def test_it(pair): pass\n",
    )
    suite.run("--carthage-name=st").assert_outcomes(passed=1)


def test_workers_are_refused(suite: Suite) -> None:
    _stand(suite)
    result = suite.run_apart("-n2", "--carthage-use=st", xdist=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "--carthage-use: workers of pytest-xdist would disturb each other in one environment; "
        "try: without -n, or with -n0"
    ) in result.stderr.str()
    suite.run_apart("-n0", "--carthage-use=st", xdist=True).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--carthage-use=st", "--carthage-again=prodution"),
            "--carthage-again prodution: no test needs such a stage; they need: *; did you mean "
            "'production'?",
        ),
        (
            ("--carthage-again=production",),
            "--carthage-again production: in a new environment every stage runs; try: with "
            "--carthage-use NAME",
        ),
    ],
)
def test_stages_to_run_again_that_make_no_sense_are_refused(
    suite: Suite, options: tuple[str, ...], message: str
) -> None:
    _stand(suite)
    result = suite.run(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_environment_stays_longer_where_that_is_asked_for(suite: Suite) -> None:
    _stand(suite)
    suite.run("--carthage-use=st", "--keep-for=2d").assert_outcomes(passed=1)
    (listed,) = suite.alive
    assert listed.expires_at is not None
    assert listed.expires_at - time.time() > 40 * 3600


def test_layouts_of_functions_take_the_same_environment_one_after_the_other(suite: Suite) -> None:
    conftest = """
    brief = Pair.fixture(scope="function")
    @stage
    def ready(brief): brief.one.run("echo ready >> /tmp/ran")
    """
    _stand(suite, conftest=conftest, test_it="def test_it(brief, ready): pass\n")
    suite.write(
        test_it="""
        import pytest
        @pytest.mark.parametrize("number", range(3))
        def test_it(brief, ready, number):
            assert brief.one.read_text("/tmp/ran").split() == ["ready"]
        """
    )
    suite.run("--carthage-use=st").assert_outcomes(passed=3)


def test_interrupt_leaves_the_environment_alone(suite: Suite) -> None:
    _stand(suite)
    suite.write(
        test_it="""
        import pathlib, time
        def test_it(pair, production):
            pathlib.Path("begun").touch()
            time.sleep(60)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-pno:xdist", "--carthage-use=st", str(suite.path)],
        cwd=suite.path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _wait_for(suite.path / "begun", process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "st-pair: one, two, till; stays" in output
    assert main(["exec", "st-pair/till", "--", "true"]) == 0
    suite.write(test_it=TESTS)
    suite.run("--carthage-use=st").assert_outcomes(passed=1)


def test_killed_session_leaves_the_environment_and_its_claim_ends(suite: Suite) -> None:
    _stand(suite)
    suite.write(
        test_it="""
        import os, signal
        def test_it(pair): os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    suite.run_apart("--carthage-use=st")
    suite.write(test_it=TESTS)
    suite.run("--carthage-use=st").assert_outcomes(passed=1)


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
