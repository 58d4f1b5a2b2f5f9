"""Stages of a module, and what is known of their last runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.plan.times import about, columns
from pytest_carthage.model.stage import ATTRIBUTE, Stage
from pytest_carthage.planning.order import batches
from pytest_carthage.state.timings import stage_id

if TYPE_CHECKING:
    from types import ModuleType

    from pytest_carthage.state.timings import Timing

__all__ = ["StageForecast", "lines", "of_module"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageForecast:
    """A stage, and what is known of its last run."""

    stage: Stage
    #: None: it was never run
    last: Timing | None

    @property
    def expected_s(self) -> float | None:
        """What it is likely to take; None: it was never timed."""
        return None if self.last is None else self.last.expected_s

    @property
    def state(self) -> str:
        """How it is to what was run last."""
        if self.last is None:
            return "never run"
        return "as in the last run" if self.last.key == self.stage.key else "changed"

    def record(self) -> dict[str, Any]:
        """It in plain values, for programs."""
        return {
            "name": self.stage.name,
            "place": str(self.stage.place),
            "needs": list(self.stage.needs),
            "key": self.stage.key,
            "state": self.state,
            "expected_s": self.expected_s,
        }

    def row(self) -> tuple[str, str]:
        """It for a person, in two columns."""
        state = "changed since the last run" if self.state == "changed" else self.state
        needs = f"needs {', '.join(self.stage.needs)}" if self.stage.needs else "needs nothing"
        return self.stage.name, f"{needs}; {state}{about(self.expected_s)}"


def of_module(module: ModuleType, timings: Mapping[str, Timing]) -> list[StageForecast]:
    """Stages that a module has, in the order in which they wait for each other."""
    stages: dict[str, Stage] = {}
    for value in vars(module).values():
        stage = getattr(value, ATTRIBUTE, None)
        if isinstance(stage, Stage):
            stages[stage.name] = stage
    needs = {
        name: [other for other in stage.needs if other in stages and other != name]
        for name, stage in stages.items()
    }
    try:
        names = [name for batch in batches(needs) for name in batch]
    except ValueError:  # they wait for each other; pytest says so
        names = list(stages)
    return [
        StageForecast(stage=stages[name], last=timings.get(stage_id(stages[name])))
        for name in names
    ]


def lines(stages: Sequence[StageForecast]) -> Iterator[str]:
    """Write stages for a person; nothing where there are none."""
    if stages:
        yield "\nstages, to do in every run"
        yield from columns([stage.row() for stage in stages])
