"""Stages in place of tests: each stage of a layout is an item of its own.

No part of an ordinary session: ``pytest-carthage up --stages`` and ``run`` load it by ``-p``. So a
stage has what it has in tests: its fixtures, its time limit, its progress.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.live.ledger import file_of
from pytest_carthage.model.stage import ATTRIBUTE as STAGE
from pytest_carthage.model.stage import Stage
from pytest_carthage.planning.declaration import ATTRIBUTE as LAYOUT
from pytest_carthage.plugin.cycles import stage_of

__all__ = [
    "pytest_addoption",
    "pytest_collect_file",
    "pytest_collection_modifyitems",
    "pytest_terminal_summary",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the command says: which layout, which stages, where."""
    group = parser.getgroup("carthage-staging", "stages in place of tests")
    for option, text in (
        ("--staging-file", "file whose stages are meant, with those of conftest.py above"),
        ("--staging-layout", "FILE:NAME of the layout that they must stand on"),
        ("--staging-only", "the one to run, with those that it needs"),
    ):
        group.addoption(option, default="", help=text)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Collect the stages of the one file that is meant, and no tests."""
    yield
    if file_path != Path(parent.config.option.staging_file):
        return []
    return [StagesFile.from_parent(parent, path=file_path)]


class StagesFile(pytest.Module):
    """A file whose stages are items."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """The stages that are seen from this file, each with what it needs."""
        if self.path.name != "conftest.py":  # else pytest has its fixtures
            list(super().collect())
        for stage in self._stages():
            yield pytest.Function.from_parent(self, name=stage.name, callobj=_asking_for(stage))

    def _stages(self) -> Iterator[Stage]:
        yielded = set()
        for variables in self._places():
            for value in tuple(variables.values()):
                stage = getattr(value, STAGE, None)
                if isinstance(stage, Stage) and stage.name not in yielded:
                    yielded.add(stage.name)
                    yield stage

    def _places(self) -> Iterator[Mapping[str, Any]]:
        yield vars(self.obj)
        for plugin in self.config.pluginmanager.get_plugins():
            file = Path(getattr(plugin, "__file__", None) or "/")
            if inspect.ismodule(plugin) and (
                file.name != "conftest.py" or file.parent in self.path.parents
            ):
                yield vars(plugin)


def _asking_for(stage: Stage) -> Any:
    """A test that has a stage as its parameter, and nothing to do."""

    def item(**given: object) -> None:
        pass

    parameter = inspect.Parameter(stage.name, inspect.Parameter.KEYWORD_ONLY)
    item.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    item.__doc__ = stage.function.__doc__
    return item


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the stages of the layout that is meant, those first that others need.

    :raises pytest.UsageError: there are none, or not the one that is meant; says which there are.
    """
    layout, only = config.option.staging_layout, config.option.staging_only
    needs = {item.name: _stages_below(item) for item in items if _stands_on(item, layout)}
    where = config.option.staging_file
    if not needs:
        raise pytest.UsageError(
            f"layout {layout.rpartition(':')[2]!r} has no stages in {where}, or in conftest.py "
            "above; try: --from FILE"
        )
    if only and only not in needs:
        near = get_close_matches(only, needs, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise pytest.UsageError(
            f"no stage {only!r} in {where}; there are: {', '.join(needs)}{hint} "
            "(a playbook is named by its path)"
        )
    kept = [item for item in items if item.name in (needs[only] if only else needs)]
    items[:] = sorted(kept, key=lambda item: len(needs[item.name]))


def _definitions(item: pytest.Item) -> list[Any]:
    info = getattr(item, "_fixtureinfo", None)
    fixtures = info.name2fixturedefs if info is not None else {}
    return [definitions[-1] for definitions in fixtures.values() if definitions]


def _stands_on(item: pytest.Item, text: str) -> bool:
    layouts = [getattr(definition.func, LAYOUT, None) for definition in _definitions(item)]
    return any(
        f"{file_of(layout)}:{layout.__name__}" == text for layout in layouts if layout is not None
    )


def _stages_below(item: pytest.Item) -> set[str]:
    """Names of a stage and of those that it needs."""
    stages = (stage_of(definition) for definition in _definitions(item))
    return {stage.name for stage in stages if stage is not None}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to go on where a stage has failed."""
    failed = [
        report.nodeid.rpartition("::")[2] for report in terminalreporter.stats.get("error", ())
    ]
    names = terminalreporter.config.option.carthage_use
    if failed and names:
        terminalreporter.section("how to go on")
        terminalreporter.write_line(
            f"it stands as stage {failed[0]!r} has left it; when that is mended:"
        )
        terminalreporter.write_line(f"  pytest-carthage run {names[0]} {failed[0]}")
