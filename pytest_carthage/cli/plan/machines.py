"""Machines of a layout: what each is likely to take, and in which order they are built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.plan.times import Expected, about, columns
from pytest_carthage.planning import waves
from pytest_carthage.planning.sketch import sketch
from pytest_carthage.state.timings import machine_id

if TYPE_CHECKING:
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.state.timings import Timing

__all__ = ["MachinesForecast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinesForecast:
    """All machines of a plan; they are to do in every run."""

    plan: Plan
    #: name to what it is likely to take; None: it was never timed
    times: Mapping[str, float | None]
    #: names of what is built at once, in the order of building
    waves: Sequence[Sequence[str]]

    @classmethod
    def of(cls, layout: type, plan: Plan, timings: Mapping[str, Timing]) -> MachinesForecast:
        """Look up how long the machines of a layout took in earlier runs."""
        runs = {
            name: timings.get(machine_id(layout, machine))
            for name, machine in plan.machines.items()
        }
        return cls(
            plan=plan,
            times={name: None if run is None else run.expected_s for name, run in runs.items()},
            waves=waves(plan),
        )

    @property
    def expected(self) -> Expected:
        """What all of them take."""
        return Expected.whole(
            Expected.longest(Expected.of([self.times[name]]) for name in wave)
            for wave in self.waves
        )

    def record(self) -> dict[str, Any]:
        """The plan in plain values, with what each machine takes."""
        record = sketch(self.plan)
        for name, machine in record["machines"].items():
            machine["expected_s"] = self.times[name]
        return record

    def lines(self) -> Iterator[str]:
        """Them for a person."""
        yield "\nmachines, to do in every run"
        yield from columns(
            [
                (name, f"{_target(self.plan.machines[name])}{about(expected_s)}")
                for name, expected_s in self.times.items()
            ]
        )
        yield "\nbuilt in this order, what is on one line at once"
        for number, wave in enumerate(self.waves, 1):
            yield f"  {number}. {', '.join(wave)}"


def _target(machine: PlannedMachine) -> str:
    told = machine.on.settings if machine.on is not None else {}
    given = ", ".join(f"{name}={value!r}" for name, value in told.items())
    return f"{machine.target} ({given})" if given else machine.target
