"""What a stage asks of machines that their target lacks is refused before anything is built."""

from __future__ import annotations

from tests.plugin.conftest import Suite, wait_until_clean

CONFTEST = """
    from pathlib import Path

    from pytest_carthage.provider import Traits
    from pytest_carthage.testing import FakeProvider


    class Still(FakeProvider):
        async def create(self, planned, context):
            Path("created").touch()
            return await super().create(planned, context)


    def pytest_carthage_providers():
        lacks = frozenset({"freeze"})
        traits = Traits(root="existing", init=True, outside=False, lacks=lacks)
        return {"still": lambda: Still(kind="still", traits=traits)}


    class Frozen(Layout):
        web = Machine(on="still")


    frozen = Frozen.fixture()


    @stage
    async def deployed(frozen):
        await frozen.web.aio.run("true")


    @stage
    async def chilled(frozen, deployed):
        async with frozen.web.aio.freeze():
            pass
"""


def test_stage_that_a_target_rules_out_is_refused_once_before_anything_is_built(
    suite: Suite,
) -> None:
    suite.write(
        conftest=CONFTEST,
        test_it="""
        def test_first(chilled): pass
        def test_second(chilled): pass
        """,
    )
    result = suite.run()
    result.assert_outcomes(errors=1)
    path = suite.path / "conftest.py"
    (line,) = (
        number
        for number, text in enumerate(path.read_text().splitlines(), 1)
        if ".freeze()" in text
    )
    result.stdout.fnmatch_lines(
        [
            "*stage 'chilled': machine 'web' of layout 'Frozen': target 'still' cannot freeze "
            f'machines; web.freeze() is used in {path}:{line}; try: on="netns"*',
            "blocked by stage 'chilled': 1 test",
            "  it failed in test_it.py::test_first:*",
        ]
    )
    assert not (suite.path / "created").exists()
    assert wait_until_clean() == []


def test_tests_without_that_stage_have_their_layout(suite: Suite) -> None:
    suite.write(
        conftest=CONFTEST,
        test_it="""
        def test_first(deployed, frozen):
            assert frozen.web.run("hostname").stdout == "web\\n"
        def test_second(chilled): pass
        def test_third(frozen): pass
        def test_fourth(chilled): pass
        """,
    )
    result = suite.run()
    result.assert_outcomes(errors=1, passed=2)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_second*"])


def test_stage_on_another_target_is_left_alone(suite: Suite) -> None:
    suite.write(
        conftest=CONFTEST.replace('Machine(on="still")', "Machine()"),
        test_it="def test_it(chilled, pair): pass",
    )
    result = suite.run()
    result.assert_outcomes(passed=1)
    assert not (suite.path / "created").exists()


def test_layout_that_cannot_be_planned_is_told_of_by_itself(suite: Suite) -> None:
    suite.write(
        conftest=CONFTEST.replace('Machine(on="still")', 'Machine(on="nowhere")'),
        test_it="def test_it(chilled): pass",
    )
    result = suite.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*layout 'Frozen': target 'nowhere' is unknown*"])
