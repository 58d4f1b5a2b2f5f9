"""Stages: run once, in order; told as a cause once, and as a block after that."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Suite


def test_stages_run_once_and_in_order(suite: Suite) -> None:
    suite.write(
        conftest="""
        ran = []

        @stage
        async def imported(pair):
            ran.append("imported")
            return (await pair.one.aio.run("echo 3")).lines

        @stage
        def production(pair, imported):
            ran.append("production")
            pair.two.write_text("/tmp/tills", imported[0])
            return ran
        """,
        test_it="""
        def test_first(production, pair):
            assert pair.two.read_text("/tmp/tills") == "3"

        def test_second(production):
            assert production == ["imported", "production"]
        """,
    )
    result = suite.run("--carthage-name=staged")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*carthage: staged-pair: stage imported: starting",
            "*carthage: staged-pair: stage imported: done in * s",
            "*carthage: staged-pair: stage production: starting",
            "*carthage: staged-pair: stage production: done in * s",
        ]
    )


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_failed_stage_is_one_error_and_blocks_the_others(suite: Suite, kind: str) -> None:
    suite.write(
        conftest=f"""
        @stage
        {kind} imported(pair):
            assert pair.one.name == "two", "wrong data"

        @stage
        {kind} production(imported):
            pass
        """,
        test_it="""
        def test_first(imported): pass
        def test_second(production): pass
        def test_third(pair): pass
        """,
    )
    result = suite.run()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*carthage: *: stage imported: failed after * s: AssertionError: wrong data",
            "*ERROR at setup of test_first*",
            '>       assert pair.one.name == "two", "wrong data"',
            "E       AssertionError: wrong data",
            "blocked by stage 'imported': 1 test",
            "  it failed in test_it.py::test_first: AssertionError: wrong data",
            "  BLOCKED test_it.py::test_second",
        ]
    )
    for hidden in ("*portal.py*", "*session.py*", "*stage.py*"):
        result.stdout.no_fnmatch_line(hidden)


def test_failed_command_of_a_stage_shows_the_stages_line(suite: Suite) -> None:
    suite.write(
        conftest="""
        @stage
        async def imported(pair):
            await pair.one.aio.run("echo broken dump >&2; exit 4")
        """,
        test_it="def test_it(imported): pass\n",
    )
    result = suite.run()
    result.stdout.fnmatch_lines(
        [
            '>       await pair.one.aio.run("echo broken dump >&2; exit 4")',
            "E *CommandError: machine 'one' of layout 'Pair': * exited with status 4 *",
            "E *broken dump",
        ]
    )
    result.stdout.no_fnmatch_line("*portal.py*")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("async def", "await pair.one.aio.run('sleep 30')"),
        ("def", "pair.one.run('sleep 30')"),
        ("def", "import time; time.sleep(30)"),
    ],
)
def test_stage_that_never_ends_is_stopped(suite: Suite, kind: str, body: str) -> None:
    suite.write(
        conftest=f"""
        @stage(timeout_s=0.3)
        {kind} imported(pair):
            {body}
        """,
        test_it="def test_it(imported): pass\n",
    )
    result = suite.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *TimeLimitError: stage 'imported' did not end in 0.3 s (*conftest.py:*); "
            "try: @stage(timeout_s=...) with more, or find out what it waits for"
        ]
    )


def test_stage_that_blocks_its_event_loop_is_stopped_where_it_blocks(suite: Suite) -> None:
    suite.write(
        conftest="""
        import time

        @stage(timeout_s=0.1)
        async def imported(pair):
            time.sleep(60)
        """,
        test_it="def test_it(imported): pass\n",
    )
    result = suite.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*carthage: *-pair: stage imported: failed after ?.?? s: *",
            ">*time.sleep(60)",
            "E *TimeLimitError: stage 'imported' did not end in 0.1 s *",
        ]
    )


def test_async_test_can_ask_for_an_async_stage(suite: Suite) -> None:
    suite.write(
        conftest="""
        @stage
        async def imported(pair):
            return (await pair.one.aio.run("hostname")).lines
        """,
        test_it="""
        import asyncio

        def test_it(request):
            async def body():
                return request.getfixturevalue("imported")

            assert asyncio.run(body()) == ["one"]
        """,
    )
    suite.run().assert_outcomes(passed=1)


def test_timeout_of_the_stages_own_is_not_taken_for_its_limit(suite: Suite) -> None:
    suite.write(
        conftest="""
        @stage(timeout_s=20)
        async def imported(pair):
            raise TimeoutError("of its own")
        """,
        test_it="def test_it(imported): pass\n",
    )
    result = suite.run()
    result.stdout.fnmatch_lines(["E       TimeoutError: of its own"])


CYCLE = """
import pytest

@stage
async def imported(pair, production): pass

@pytest.fixture(scope="session")
def data(imported): pass

@stage
async def production(data): pass
"""


def test_cycle_of_stages_is_a_usage_error_before_anything_is_built(suite: Suite) -> None:
    suite.write(conftest=CYCLE, test_it="def test_it(production): pass\n")
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines_random(
        [
            "ERROR: these wait for each other, so that none can begin:",
            "  stage 'imported' (*conftest.py:*) waits for pair, production",
            "  fixture 'data' (*conftest.py:*) waits for imported",
            "  stage 'production' (*conftest.py:*) waits for data",
            "  and so on: *",
            "take one of these parameters away",
        ]
    )
    result.stdout.no_fnmatch_line("*carthage: *")


def test_cycle_that_no_test_uses_does_no_harm(suite: Suite) -> None:
    suite.write(conftest=CYCLE, test_it="def test_it(pair): pass\n")
    suite.run().assert_outcomes(passed=1)


def test_stage_that_overrides_and_uses_its_namesake_is_no_cycle(suite: Suite) -> None:
    suite.write(
        conftest="""
        @stage
        async def imported(pair):
            return ["base"]
        """,
        test_it="""
        from pytest_carthage import stage

        @stage
        async def imported(imported):
            return [*imported, "more"]

        def test_it(imported):
            assert imported == ["base", "more"]
        """,
    )
    suite.run().assert_outcomes(passed=1)


def test_single_error_of_a_task_group_is_shown_without_the_group(suite: Suite) -> None:
    suite.write(
        conftest="""
        import asyncio

        @stage
        async def imported(pair):
            async with asyncio.TaskGroup() as group:
                group.create_task(pair.one.aio.run("echo no such table; exit 3"))
        """,
        test_it="def test_it(imported): pass\n",
    )
    result = suite.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*machine 'one' of layout 'Pair': 'echo no such table; exit 3'*"])
    result.stdout.no_fnmatch_line("*ExceptionGroup*")


def test_stage_that_waits_for_itself_is_a_usage_error(suite: Suite) -> None:
    suite.write(
        conftest="""
        @stage
        async def imported(imported): pass
        """,
        test_it="def test_it(imported): pass\n",
    )
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["  and so on: imported -> imported"])
