"""The hook that is told what becomes known of links."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Suite


def test_hook_is_told_of_every_link_and_the_layout_waits_for_it(suite: Suite) -> None:
    suite.write(
        conftest="""
        import asyncio

        told = []

        async def configure(event):
            await asyncio.gather(*event.far_ends.values())
            told.append(f"{event.machine}.{event.link.interface} {event.link.address}")

        def pytest_carthage_network_event(event):
            return configure(event)
        """,
        test_it="""
        def test_it(pair, request):
            (conftest,) = [
                plugin for plugin in request.config.pluginmanager.get_plugins()
                if hasattr(plugin, "told")
            ]
            assert sorted(conftest.told) == ["one.eth0 10.0.0.1/24", "two.eth0 10.0.0.2/24"]
        """,
    )
    suite.run().assert_outcomes(passed=1)


def test_hook_that_fails_fails_the_layout(suite: Suite) -> None:
    suite.write(
        conftest="""
        def pytest_carthage_network_event(event):
            raise KeyError(event.machine)
        """,
        test_it="def test_it(pair): pass",
    )
    result = suite.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*of LinkResolved failed: KeyError: '*' (at *conftest.py:*)"])
    assert suite.alive == []


@pytest.mark.parametrize(
    ("hook", "option"),
    [("providers", "--carthage-target=netns"), ("layouts", "--carthage-layout=shop")],
)
def test_hook_that_fails_is_named_with_its_line(suite: Suite, hook: str, option: str) -> None:
    suite.write(
        conftest=f"""
        def pytest_carthage_{hook}():
            return {{}}["shop"]
        """,
        test_it="def test_it(): pass",
    )
    result = suite.run(option)
    result.stderr.fnmatch_lines(
        [f"ERROR: hook pytest_carthage_{hook} failed: KeyError: 'shop' (at *conftest.py:*)"]
    )


def test_failure_of_an_authors_code_is_shown_with_its_own_lines(suite: Suite) -> None:
    suite.write(
        conftest="""
        from pytest_carthage import Role, machine_task

        class Bad(Role):
            @machine_task
            def read(self, machine):
                open("/no/such/price")

        class Lab(Layout):
            lan = Network("10.0.0.0/24")
            one = Machine(links={"eth0": lan.at(".1")}, roles=[Bad()])

        lab = Lab.fixture()

        @stage
        def counted(pair):
            return {}["milk"]
        """,
        test_it="def test_task(lab): pass\ndef test_stage(counted): pass",
    )
    result = suite.run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "machine 'one' of layout 'Lab': task 'read' of role Bad *(at *conftest.py:*)",
            "Traceback (most recent call last):",
            '  File "*/conftest.py", line *, in read',
            '    open("/no/such/price")',
            "FileNotFoundError: *",
            '>*return {}[[]"milk"]',
            "E * KeyError: 'milk'",
        ]
    )
    result.stdout.no_fnmatch_line("*filesystem.py*")
    result.stdout.no_fnmatch_line("*threading.py*")
    result.stdout.no_fnmatch_line("*return (yield)*")
