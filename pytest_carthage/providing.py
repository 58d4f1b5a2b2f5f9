"""The providers of this process."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

from pytest_carthage.errors import CarthageError, CreationError, LayoutError, Problem
from pytest_carthage.model.mistakes.culprit import described
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.traits import Traits, traits_of
from pytest_carthage.provider import Provider

__all__ = ["Providers", "check"]


@contextlib.contextmanager
def _of_target(kind: str, what: str, function: object) -> Iterator[None]:
    """A block that calls a provider, which may be a third party's; its errors of ours pass."""
    try:
        yield
    except CarthageError:
        raise
    except Exception as error:
        said = described(error, function)
        raise CreationError(f"target {kind!r}: {what} failed: {said}") from error


class Providers:
    """The providers of this process, made when they are first asked for."""

    def __init__(self, factories: Mapping[str, Callable[[], Provider]]) -> None:
        self._factories = dict(factories)
        self._made: dict[str, Provider] = {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """Targets that there are."""
        return tuple(sorted(self._factories))

    def __getitem__(self, kind: str) -> Provider:
        if kind not in self._made:
            if kind not in self._factories:
                raise LayoutError(f"unknown target {kind!r}; there are: {', '.join(self.kinds)}")
            factory = self._factories[kind]
            with _of_target(kind, "making its provider", factory):
                self._made[kind] = factory()
        return self._made[kind]

    @property
    def traits(self) -> Mapping[str, Traits]:
        """What machines of each target are like; one that cannot be loaded is warned of."""
        traits = {}
        for kind in self.kinds:
            try:
                traits[kind] = traits_of(self[kind])
            except Exception as error:
                warnings.warn(
                    f"target {kind!r} cannot be used: {type(error).__name__}: {error}",
                    stacklevel=2,
                )
        return traits

    def needed(self, plan: Plan) -> Mapping[str, Provider]:
        """Providers of a plan's machines, by target."""
        targets = dict.fromkeys(machine.target for machine in plan.machines.values())
        return {target: self[target] for target in targets}


def check(plan: Plan, providers: Providers) -> Sequence[Problem]:
    """List what this host lacks for a plan; nothing is created.

    :raises CreationError: a provider failed at it.
    """
    problems: list[Problem] = []
    for kind, provider in providers.needed(plan).items():
        with _of_target(kind, "its check", provider.check):
            problems += provider.check(plan)
    return problems
