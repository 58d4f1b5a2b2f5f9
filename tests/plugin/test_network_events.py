"""The hook that is told what becomes known of links."""

from __future__ import annotations

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
    result.stdout.fnmatch_lines(["*of LinkResolved failed: KeyError: '*'"])
    assert suite.alive == []
