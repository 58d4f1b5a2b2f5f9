"""Scopes of layouts and of their stages: how many environments, their names, their end."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import PAIR, Suite

pytestmark = pytest.mark.real

#: two modules with the same tests: which environment each one gets
NAMES = """
import pytest

pytestmark = pytest.mark.parametrize("case", ["a", "b"])

def test_plain(scoped, case, record):
    record(scoped)

class TestFirst:
    def test_one(self, scoped, case, record):
        record(scoped)

class TestSecond:
    def test_one(self, scoped, case, record):
        record(scoped)
"""
RECORD = """
import pytest
scoped = Pair.fixture(scope={scope!r})

@pytest.fixture(scope="session")
def names():
    names = []
    yield names
    print("names:", *dict.fromkeys(names))

@pytest.fixture
def record(names):
    def record(pair):
        pair.one.run("true")
        names.append(pair.name)
    return record
"""


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("session", ["run-pair"]),
        ("module", ["run-pair-test-it", "run-pair-test-other"]),
        (
            "class",
            # to pytest, a test outside of classes is a class of its own
            [
                *("run-pair-test-plain-a", "run-pair-test-plain-b"),
                *("run-pair-testfirst", "run-pair-testsecond"),
                *("run-pair-test-plain-a-2", "run-pair-test-plain-b-2"),
                *("run-pair-testfirst-2", "run-pair-testsecond-2"),
            ],
        ),
        (
            "function",
            [
                *("run-pair-test-plain-a", "run-pair-test-plain-b"),
                *("run-pair-test-one-a", "run-pair-test-one-b"),
                *("run-pair-test-one-a-2", "run-pair-test-one-b-2"),
                *("run-pair-test-plain-a-2", "run-pair-test-plain-b-2"),
                *("run-pair-test-one-a-3", "run-pair-test-one-b-3"),
                *("run-pair-test-one-a-4", "run-pair-test-one-b-4"),
            ],
        ),
    ],
)
def test_environments_of_a_scope_are_named_after_what_they_are_for(
    suite: Suite, scope: str, expected: list[str]
) -> None:
    suite.write(conftest=RECORD.format(scope=scope), test_it=NAMES, test_other=NAMES)
    result = suite.run("--carthage-name=run", "-s")
    result.assert_outcomes(passed=12)
    (line,) = [line for line in result.outlines if "names: " in line]
    assert line.split("names: ")[1].split() == expected
    assert suite.alive == []


def test_packages_have_environments_of_their_own(suite: Suite) -> None:
    for name in ("left", "right"):
        folder = suite.path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        # to pytest, a package is that in which the fixture is written
        (folder / "conftest.py").write_text(PAIR.replace("fixture()", "fixture(scope='package')"))
        text = f"def test_it(pair): assert pair.name == 'run-pair-{name}'\n"
        (folder / "test_first.py").write_text(text)
        (folder / "test_second.py").write_text(text)
    suite.run("--carthage-name=run").assert_outcomes(passed=4)


def test_stages_follow_the_narrowest_of_their_layouts(suite: Suite) -> None:
    suite.write(
        conftest="""
        brief = Pair.fixture(scope="function")
        _named = Pair.fixture(scope="module", name="named")

        ran = []

        @stage
        def after(both): ran.append("after")
        @stage
        def both(named, brief): ran.append("both")
        @stage
        def named_only(named): ran.append("named_only")
        @stage
        def whole(pair): ran.append("whole")
        @stage(scope="function")
        def again(pair): ran.append("again")
        """,
        test_it="""
        from conftest import ran

        def test_first(after, named_only, whole, again):
            assert sorted(ran) == ["after", "again", "both", "named_only", "whole"]

        def test_second(after, named_only, whole, again):
            assert sorted(ran[5:]) == ["after", "again", "both"]
        """,
        test_other="""
        from conftest import ran

        def test_third(after, named_only, whole):
            assert sorted(ran[8:]) == ["after", "both", "named_only"]
        """,
    )
    suite.run().assert_outcomes(passed=3)


def test_stage_of_a_folder_below_follows_the_layout_above(suite: Suite) -> None:
    suite.write(conftest="brief = Pair.fixture(scope='function')")
    folder = suite.path / "below"
    folder.mkdir()
    (folder / "conftest.py").write_text(
        "from pytest_carthage import stage\n"
        "@stage\ndef imported(brief): brief.one.write_text('/tmp/imported', brief.name)\n"
    )
    (folder / "test_it.py").write_text(
        "def test_one(imported): pass\n"
        "def test_two(imported, brief): assert brief.one.read_text('/tmp/imported') == brief.name\n"
    )
    suite.run().assert_outcomes(passed=2)


def test_stage_that_is_wider_than_its_layout_is_refused_at_collection(suite: Suite) -> None:
    suite.write(
        conftest="""
        brief = Pair.fixture(scope="function")
        @stage(scope="module")
        def imported(brief): pass
        """,
        test_it="def test_it(imported): pass",
    )
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: stage 'imported' (*conftest.py:*) lasts for a module, and layout 'Pair' "
            "(fixture 'brief'), which it is given, for a function, as test_it.py::test_it needs "
            "them; try: @stage(scope='function')"
        ]
    )
    result.stdout.no_fnmatch_line("*started*")


def test_stage_whose_layout_is_replaced_by_a_narrower_one_is_refused(suite: Suite) -> None:
    suite.write(
        conftest="@stage\ndef imported(pair): pass\n",
        test_it="""
        from conftest import Pair
        pair = Pair.fixture(scope="class")
        def test_it(imported): pass
        """,
    )
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: stage 'imported' *a session, and layout 'Pair' (fixture 'pair')*for a class*"]
    )
    assert "or write it beside the fixture 'pair'" in result.stderr.str()


def test_stage_is_refused_by_a_worker_of_xdist_too(suite: Suite) -> None:
    suite.write(
        conftest="""
        import pytest
        @pytest.fixture
        def number(): return 1
        @stage
        def imported(pair, number): pass
        """,
        test_it="def test_it(imported): pass",
    )
    result = suite.run_apart("-n1", xdist=True)
    text = result.stdout.str() + result.stderr.str()
    assert "stage 'imported'" in text
    assert "fixture 'number', which it is given, for a function" in text


def test_keep_on_fail_keeps_the_environment_of_the_test_that_failed(suite: Suite) -> None:
    suite.write(
        test_it="""
        import pytest
        from conftest import Pair
        pair = Pair.fixture(scope="function")

        @pytest.mark.parametrize("number", range(4))
        def test_number(pair, number):
            pair.one.write_text("/tmp/number", str(number))
            assert number != 2
        """
    )
    result = suite.run("--keep-on-fail", "--carthage-name=keep")
    result.assert_outcomes(passed=3, failed=1)
    (kept,) = suite.alive
    assert kept.name == "keep-pair-test-number-2"
    assert list(suite.summary("test_it.py.test_number[2]")["environments"]) == [kept.name]


def test_failed_teardown_does_not_hide_the_failed_test(suite: Suite) -> None:
    suite.write(
        conftest="""
        brief = Pair.fixture(scope="function")
        """,
        test_it="""
        from pytest_carthage.errors import StateError

        async def fail(self):
            raise StateError("no end today")

        def test_fails(monkeypatch, brief):
            monkeypatch.setattr(type(brief.aio), "close", fail)
            assert brief.one.name == "two"

        def test_next(brief):
            assert brief.one.run("true").ok
        """,
    )
    result = suite.run("--carthage-name=masked")
    result.assert_outcomes(failed=1, passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "environment 'masked-pair-test-fails': its teardown failed: no end today",
            "E  *AssertionError: assert 'one' == 'two'",
            "ERROR test_it.py::test_fails*",
            "FAILED test_it.py::test_fails - AssertionError*",
        ]
    )


def test_layouts_of_functions_end_in_order_one_after_the_other(suite: Suite) -> None:
    suite.write(
        conftest="""
        from pytest_carthage.state.listing import list_environments
        import pytest

        @pytest.fixture
        def outer(brief):
            yield brief
            assert brief.one.run("true").ok     # what stands on it ends first
        brief = Pair.fixture(scope="function")
        """,
        test_it="""
        from conftest import list_environments

        def test_first(outer):
            assert len(list_environments()) == 1
        def test_second(outer):
            assert len(list_environments()) == 1
        """,
    )
    suite.run().assert_outcomes(passed=2)


def test_fifty_environments_do_not_hide_the_tests(suite: Suite) -> None:
    suite.write(
        conftest="brief = Pair.fixture(scope='function')",
        test_it="""
        import pytest
        @pytest.mark.parametrize("number", range(5))
        def test_number(brief, number): pass
        """,
    )
    result = suite.run()
    result.assert_outcomes(passed=5)
    carthage = [line for line in result.outlines if "carthage: " in line]
    assert len(carthage) == 1
    result.stdout.fnmatch_lines(
        [
            "test_it.py ..... *",
            "carthage: layout 'Pair': 5 environments, one for each function: built in * s, gone "
            "in * s (median); all in all * s",
        ]
    )


def test_failing_environment_of_a_function_is_shown(suite: Suite) -> None:
    suite.write(
        test_it="""
        from pytest_carthage import Machine
        from conftest import Pair

        class Broken(Pair):
            three = Machine(command=["/no/such/program"])

        broken = Broken.fixture(scope="function")
        def test_it(broken): pass
        """
    )
    result = suite.run("--carthage-name=bad")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*carthage: bad-broken-test-it: three: failed after * s: *"])


def test_workers_have_environments_of_their_own_for_each_test(suite: Suite) -> None:
    suite.write(
        conftest="brief = Pair.fixture(scope='function')",
        test_it="""
        import pytest
        @pytest.mark.parametrize("number", range(4))
        def test_number(brief, number, worker_id):
            assert brief.name == f"run-pair-{worker_id}-test-number-{number}"
            assert brief.one.run("true").ok
        """,
    )
    suite.run_apart("-n2", "--carthage-name=run", xdist=True).assert_outcomes(passed=4)
    assert suite.alive == []


def test_async_tests_use_layouts_of_functions(suite: Suite) -> None:
    pytest.importorskip("pytest_asyncio")
    suite.write(
        conftest="""
        brief = Pair.fixture(scope="function")
        @stage
        async def ready(brief): await brief.one.aio.write_text("/tmp/ready", "yes")
        """,
        test_it="""
        import pytest

        @pytest.mark.asyncio
        async def test_first(brief, ready):
            assert await brief.two.aio.ping("one")
            assert await brief.one.aio.read_text("/tmp/ready") == "yes"
            await brief.one.aio.write_text("/tmp/mine", "1")

        @pytest.mark.asyncio
        async def test_second(brief, ready):
            assert not await brief.one.aio.exists("/tmp/mine")
        """,
    )
    result = suite.pytester.runpytest_subprocess(
        "-p", "no:xdist", "-o", "asyncio_default_fixture_loop_scope=function", timeout=60
    )
    result.assert_outcomes(passed=2)
