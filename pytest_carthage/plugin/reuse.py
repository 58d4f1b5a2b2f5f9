"""Environments that a session uses rather than builds: ``--carthage-use``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.errors import CarthageError, StateError
from pytest_carthage.live.standing import Standing, claim
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.declaration import ATTRIBUTE
from pytest_carthage.plugin import choice
from pytest_carthage.plugin.cycles import stage_of
from pytest_carthage.plugin.settings import settings_of
from pytest_carthage.providing import Providers
from pytest_carthage.state.listing import Listed, list_environments

if TYPE_CHECKING:
    from pytest_carthage.live.layout import Layout
    from pytest_carthage.model.stage import Stage
    from pytest_carthage.planning.plan import Plan

__all__ = ["Reuse"]

REUSE = pytest.StashKey["Reuse"]()

#: stands for every stage in ``--carthage-again``
EVERY = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A layout that tests want, by the name of its fixture."""

    fixture: str
    layout: type[Layout]
    #: the first test that wants it
    test: str


class Reuse:
    """Which environments a session uses, and for which layouts."""

    def __init__(self, standings: Sequence[Standing], again: frozenset[str]) -> None:
        self.standings = tuple(standings)
        self._again = again

    @classmethod
    def begin(cls, config: pytest.Config) -> None:
        """Claim the environments that were asked for.

        :raises pytest.UsageError: there is none of that name, or it cannot be used.
        """
        settings = settings_of(config)
        _refuse_workers(config)
        standings: list[Standing] = []

        def release() -> None:
            for standing in standings:
                standing.release()

        config.add_cleanup(release)
        try:
            there = list_environments()
            for name in settings.use:
                for listed in _named(name, there):
                    if listed.name not in [standing.name for standing in standings]:
                        standings.append(claim(listed))
        except (CarthageError, OSError) as error:
            raise pytest.UsageError(f"--carthage-use: {error}") from error
        config.stash[REUSE] = cls(standings, frozenset(settings.again))

    @classmethod
    def of(cls, config: pytest.Config) -> Reuse | None:
        """That of a session; None: it builds what it needs."""
        return config.stash.get(REUSE, None)

    def find(self, fixture: str, layout: type[Layout]) -> Standing | None:
        """The environment that a fixture takes; None: there is none for it."""
        alike = [standing for standing in self.standings if standing.is_of(layout)]
        own = [standing for standing in alike if standing.ledger.fixture == fixture]
        return next(iter(own or alike), None)

    def standing_for(
        self, layout: type[Layout], plan: Plan, request: pytest.FixtureRequest
    ) -> Standing:
        """The environment that is taken up for a fixture.

        :raises StateError: there is none of this layout, or none that is as it is now.
        """
        standing = self.find(request.fixturename or "", layout)
        if standing is None or (changes := standing.differences(plan)):
            seen = "none of its environments is of this layout"
            if standing is not None:
                seen = f"environment {standing.name!r} is of another one: {'; '.join(changes)}"
            raise StateError(f"layout {layout.__name__!r}: --carthage-use: {seen}")
        return standing

    def runs_again(self, stage: Stage) -> bool:
        """Whether a stage was asked to run, also where it has run already."""
        return stage.name in self._again or EVERY in self._again

    def check(self, config: pytest.Config, items: Sequence[pytest.Item]) -> None:
        """Compare what tests want with what there is, before anything runs.

        :raises pytest.UsageError: there is no environment for a layout, or it is another one; or
            a stage that is to run again is unknown.
        """
        stages: dict[str, None] = {}
        wanted: dict[str, Wanted] = {}
        for item in items:
            stages.update(dict.fromkeys(_stages(item)))
            for each in _layouts(item):
                wanted.setdefault(each.fixture, each)
        self._check_again(stages)
        taken: dict[str, str] = {}
        traits = Providers(choice.known_providers(config)).traits
        target = settings_of(config).target
        complaints: list[str] = []
        for want in wanted.values():
            who = f"layout {want.layout.__name__!r} (fixture {want.fixture!r})"
            standing = self.find(want.fixture, want.layout)
            if standing is None:
                complaints.append(self._missing(want, who))
                continue
            other = taken.setdefault(standing.name, want.fixture)
            if other != want.fixture:
                complaints.append(
                    f"{who}: environment {standing.name!r} is that of fixture {other!r} already; "
                    "try: one --carthage-use for each, or fewer tests"
                )
                continue
            changes = standing.differences(make_plan(want.layout, target=target, targets=traits))
            if changes:
                rows = "".join(f"\n  {change}" for change in changes)
                complaints.append(
                    f"{who} is not as it was when environment {standing.name!r} was built:{rows}\n"
                    f"try: build it anew (pytest-carthage rm {standing.name}), or take the change "
                    "back"
                )
        if complaints:
            raise pytest.UsageError("--carthage-use: " + "\n".join(complaints))

    def _missing(self, want: Wanted, who: str) -> str:
        having = [
            f"{standing.name} is of {standing.ledger.layout!r} in {standing.ledger.file}"
            for standing in self.standings
        ]
        return (
            f"none of these environments is of {who}, which {want.test} needs: "
            f"{'; '.join(having)}; try: a further --carthage-use, or fewer tests"
        )

    def _check_again(self, stages: Iterable[str]) -> None:
        names = [*stages]
        for name in sorted(self._again - {EVERY, *names}):
            near = get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise pytest.UsageError(
                f"--carthage-again {name}: no test needs such a stage; they need: "
                f"{', '.join(names) or 'none'}{hint}"
            )


def _refuse_workers(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError(
            "--carthage-use: workers of pytest-xdist would disturb each other in one environment; "
            "try: without -n, or with -n0"
        )


def _named(name: str, there: Sequence[Listed]) -> list[Listed]:
    """Environments of a name, of a run, or of the beginning of one name.

    :raises pytest.UsageError: there are none, or several are meant.
    """
    if exact := [each for each in there if each.name == name]:
        return exact
    if whole_run := [each for each in there if each.run == name]:
        return whole_run
    begins = [each for each in there if each.name.startswith(name)]
    if len(begins) == 1:
        return begins
    names = ", ".join(each.name for each in begins or there) or "none"
    if begins:
        raise pytest.UsageError(f"--carthage-use {name}: several are meant: {names}")
    near = get_close_matches(name, [each.name for each in there], 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise pytest.UsageError(
        f"--carthage-use {name}: no environment of this name is alive; there are: {names}{hint}; "
        "try: pytest-carthage up LAYOUT --stages --name NAME, or pytest --keep"
    )


def _last(item: pytest.Item) -> dict[str, Any]:
    """Name to definition, of the fixtures that a test needs."""
    info = getattr(item, "_fixtureinfo", None)
    fixtures = info.name2fixturedefs if info is not None else {}
    return {name: definitions[-1] for name, definitions in fixtures.items() if definitions}


def _layouts(item: pytest.Item) -> Iterator[Wanted]:
    for name, definition in _last(item).items():
        layout = getattr(definition.func, ATTRIBUTE, None)
        if layout is not None:
            yield Wanted(fixture=name, layout=layout, test=item.nodeid)
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    chosen = parameters.get("layout")
    if isinstance(chosen, type) and hasattr(chosen, "machines"):
        yield Wanted(fixture="layout", layout=chosen, test=item.nodeid)


def _stages(item: pytest.Item) -> Iterator[str]:
    for definition in _last(item).values():
        stage = stage_of(definition)
        if stage is not None:
            yield stage.name
