"""Layouts that other fixtures ask for while they run: their failures, artifacts and keeping."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Suite

pytestmark = pytest.mark.real

SITES = """
import pytest
other = Pair.fixture()

@pytest.fixture(scope="session", params=["pair", "other"])
def site(request):
    return request.getfixturevalue(request.param)
"""


def test_layout_of_a_wider_fixture_is_looked_at_for_every_test_that_fails(suite: Suite) -> None:
    suite.write(
        conftest=SITES,
        test_it="""
        def test_passes(site): assert site.one.run("true").ok
        def test_fails(site): assert site.one.run("echo seen").stdout == ""
        """,
    )
    result = suite.run("--keep-on-fail", "--carthage-name=dyn")
    result.assert_outcomes(passed=2, failed=2)
    for name, environment in (("pair", "dyn-pair"), ("other", "dyn-pair-2")):
        summary = suite.summary(f"test_it.py.test_fails[{name}]")
        assert list(summary["environments"]) == [environment]
    assert sorted(each.name for each in suite.alive) == ["dyn-pair", "dyn-pair-2"]


def test_layout_that_was_there_before_a_fixture_asked_for_it_counts_too(suite: Suite) -> None:
    suite.write(
        conftest="""
        import pytest

        @pytest.fixture(scope="module")
        def middle(pair): return pair

        @pytest.fixture(scope="module")
        def outer(request): return request.getfixturevalue("middle")

        @pytest.fixture(scope="module")
        def without(request): return 3
        """,
        test_it="""
        def test_early(pair): pass
        def test_uses(outer): assert outer.one.name == "one"
        def test_fails_elsewhere(without): assert without == 4
        """,
        test_other="""
        def test_sets_it_up(outer): pass
        def test_fails(outer): assert not outer.one.run("true").ok
        """,
    )
    result = suite.run("--keep-on-fail", "--carthage-name=dyn")
    result.assert_outcomes(passed=3, failed=2)
    assert [each.name for each in suite.alive] == ["dyn-pair"]
    assert list(suite.summary("test_other.py.test_fails")["environments"]) == ["dyn-pair"]
    elsewhere = suite.path.joinpath(".pytest_cache/d/carthage").glob("*/*test_fails_elsewhere*")
    assert list(elsewhere) == []


def test_fixture_that_asks_for_another_layout_next_time_lets_go_of_the_first(suite: Suite) -> None:
    suite.write(
        conftest="""
        import pytest
        other = Pair.fixture()
        turns = ["other", "pair"]

        @pytest.fixture
        def site(request): return request.getfixturevalue(turns.pop())
        """,
        test_it="""
        def test_first(site): pass
        def test_fails(site): assert not site.one.run("true").ok
        """,
    )
    result = suite.run("--keep-on-fail", "--carthage-name=dyn")
    result.assert_outcomes(passed=1, failed=1)
    assert [each.name for each in suite.alive] == ["dyn-pair-2"]
