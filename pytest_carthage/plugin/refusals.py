"""Stages that ask machines for what their targets cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_carthage.errors import CarthageError
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.refusal import refusal_of
from pytest_carthage.plugin import choice
from pytest_carthage.plugin.causes import Causes
from pytest_carthage.plugin.settings import settings_of
from pytest_carthage.providing import Providers

if TYPE_CHECKING:
    import pytest

    from pytest_carthage.live.layout import Layout
    from pytest_carthage.model.stage import Stage
    from pytest_carthage.planning.uses import Use

__all__ = ["Refusals"]


class Refusals:
    """Refuses each such stage, for the same reason every time."""

    def __init__(self, config: pytest.Config, causes: Causes) -> None:
        self._config = config
        self._causes = causes
        self._target = settings_of(config).target
        #: stages that were looked at, and why they are refused, if they are
        self._refused: dict[tuple[Stage, type[Layout]], BaseException | None] = {}

    def refuse(
        self, item: pytest.Item, stage: Stage, layout: type[Layout], uses: Sequence[Use]
    ) -> None:
        """Refuse a stage that asks a machine for what its target cannot do.

        :param item: the test that wants it, which is not set up yet.
        :param uses: what it asks for.
        :raises pytest.fail.Exception: always the same for one stage.
        """
        __tracebackhide__ = True
        key = (stage, layout)
        if key not in self._refused:
            self._refused[key] = None
            try:
                self._look(item, stage, layout, uses)
            except BaseException as failure:
                self._refused[key] = failure
        if (refused := self._refused[key]) is not None:
            raise refused

    def _look(
        self, item: pytest.Item, stage: Stage, layout: type[Layout], uses: Sequence[Use]
    ) -> None:
        __tracebackhide__ = True
        traits = Providers(choice.known_providers(self._config)).traits
        if all(each.can(use.capability) for each in traits.values() for use in uses):
            return
        try:
            plan = make_plan(layout, target=self._target, targets=traits)
        except CarthageError:
            return  # whoever builds it says so
        if (error := refusal_of(plan, uses)) is not None:
            self._causes.refuse(f"stage {stage.name!r}", error, test=item.nodeid)
