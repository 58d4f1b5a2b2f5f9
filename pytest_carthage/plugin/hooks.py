"""Thin hooks of pytest, imported at every start of it.

What costs time is imported by the hook that needs it, so that a session that uses no layout
pays next to nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.door import DOOR, Door
from pytest_carthage.plugin import hookspecs, options

if TYPE_CHECKING:
    from pytest_carthage.live.layout import Layout
    from pytest_carthage.plugin.settings import Settings
    from pytest_carthage.provider import Provider

#: what pytest registers
__all__ = [
    "carthage_build",
    "layout",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_assertrepr_compare",
    "pytest_carthage_layouts",
    "pytest_carthage_providers",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_generate_tests",
    "pytest_report_header",
    "pytest_report_to_serializable",
    "pytest_runtest_setup",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks by which others add targets and layouts."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check the options before anything is collected.

    :raises pytest.UsageError: with what there is to choose from.
    """
    config.addinivalue_line(
        "markers",
        "carthage_needs(*names): faults that the test begins; where this host cannot do them it is "
        "skipped (loss, delay, jitter, rate, duplicate, corrupt, down, partition, freeze, crash); "
        "or screen_text, which it reads",
    )
    config.stash[DOOR] = _open
    if not options.are_given(config):
        return
    settings = _settings_of(config)
    if settings.named and not hasattr(config, "workerinput"):
        from pytest_carthage.plugin.claim import claim

        claim(config, settings.run)
    if settings.use:
        from pytest_carthage.plugin.reuse import Reuse

        Reuse.begin(config)
    if settings.iac_coverage:
        from pytest_carthage.plugin import coverage

        coverage.begin(config, settings)
    if settings.layouts or settings.target:
        from pytest_carthage.plugin import choice

        choice.check(config, settings)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what machines are like here, where a target was chosen that tells that."""
    target = _settings_of(config).target if options.are_given(config) else None
    if target is None:
        return []
    from pytest_carthage.plugin import choice

    return choice.header(config, target)


def _settings_of(config: pytest.Config) -> Settings:
    from pytest_carthage.plugin import settings

    return settings.settings_of(config)


def _open() -> Door:
    from pytest_carthage.plugin import fixtures

    return fixtures


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that uses ``layout`` all the layouts that were asked for."""
    if "layout" in metafunc.fixturenames and _settings_of(metafunc.config).layouts:
        from pytest_carthage.plugin import choice

        choice.parametrise(metafunc)


@pytest.fixture(scope="session")
def layout(request: pytest.FixtureRequest) -> Any:
    """Each layout that ``--carthage-layout`` names, live.

    Tests that use it run once per layout; they are skipped where none is named.
    """
    if not hasattr(request, "param"):
        pytest.skip("no layout: give --carthage-layout=PATH.py:Class (or a registered name)")
    from pytest_carthage.plugin import fixtures

    yield from fixtures.layout_fixture(request.param, request)


@pytest.fixture(scope="session")
def carthage_build(request: pytest.FixtureRequest) -> Any:
    """Builds an image that a stage has put together: ``carthage_build(image)`` gives its handle."""
    from pytest_carthage.plugin import fixtures

    yield from fixtures.builder_fixture(request)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse stages that wait for each other or last too long, and networks that nobody has.

    :raises pytest.UsageError: with the cycle, the two scopes, or the networks that there are.
    """
    has_stages = "pytest_carthage.model.stage" in sys.modules
    if not (has_stages or "pytest_carthage.live.layout" in sys.modules):
        return
    asked = bool(_settings_of(config).pcap)
    try:
        if asked:
            from pytest_carthage.plugin import pcap

            pcap.check(_settings_of(config))
        if has_stages:
            from pytest_carthage.plugin import cycles, widths

            cycles.refuse_cycles(items)
            widths.refuse_wide_stages(items)
        if _settings_of(config).use:
            from pytest_carthage.plugin.reuse import Reuse

            if (reuse := Reuse.of(config)) is not None:
                reuse.check(config, items)
    except pytest.UsageError as error:
        output: dict[str, str] | None = getattr(config, "workeroutput", None)
        if output is None:
            raise
        # what a worker of pytest-xdist raises is an internal error: its controller raises it
        output["carthage_refusal"] = str(error)
        items.clear()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Share the run's name with a worker of pytest-xdist."""
    from pytest_carthage.plugin import blocked, controller, relay

    blocked.register(node.config)
    relay.listen(node)
    settings = _settings_of(node.config)
    node.workerinput["carthage_run"] = settings.run
    if settings.iac_coverage:
        from pytest_carthage.plugin import coverage

        coverage.share(node)
    controller.register(node.config, settings.run)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Pass on what a worker of pytest-xdist refused, and keep what it says of gates.

    :raises pytest.UsageError: with the worker's words.
    """
    output = getattr(node, "workeroutput", {})
    if records := output.get("carthage_gates"):
        from pytest_carthage.plugin import gates

        gates.remember(node.config, records)
    refusal = output.get("carthage_refusal")
    if refusal:
        raise pytest.UsageError(refusal)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look whether what a test needs can be done, before anything is built for it."""
    marks = list(item.iter_markers("carthage_needs"))
    if marks:
        from pytest_carthage.plugin import needs

        needs.check(item, marks)
    if "pytest_carthage.model.stage" in sys.modules:
        from pytest_carthage.plugin import uses

        uses.check(item)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain a comparison with a value of ours that does not hold."""
    if "pytest_carthage.live.layout" not in sys.modules:
        return None
    from pytest_carthage.plugin import assertions

    return assertions.explained(op, left, right)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Have a worker's report of what a machine printed be text, where that is none."""
    record = yield
    from pytest_carthage.plugin.plain import plain

    return plain(record)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what stays up, which gates were open, what was reached, and what could not be built."""
    plugins = terminalreporter.config.pluginmanager
    if not any(map(plugins.hasplugin, (options.SESSION, options.COVERAGE, "dsession"))):
        return  # neither this process nor a worker of pytest-xdist used a layout
    from pytest_carthage.plugin import summary

    summary.write(terminalreporter)


def pytest_carthage_providers() -> Mapping[str, Callable[[], Provider]]:
    """Add the targets that installed distributions offer, the built-in ones among them."""
    from pytest_carthage.provider import load_providers

    return load_providers()


def pytest_carthage_layouts() -> Mapping[str, type[Layout] | str]:
    """Add the layouts that installed distributions register."""
    from pytest_carthage.reference import layouts

    return layouts.of_distributions()
