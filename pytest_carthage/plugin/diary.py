"""Which stages have run in which environment, as the ledgers of environments have it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_carthage.errors import StateError
from pytest_carthage.live import ledger
from pytest_carthage.live.ledger import Ran
from pytest_carthage.plugin.settings import settings_of

if TYPE_CHECKING:
    import pytest

    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.model.stage import Stage
    from pytest_carthage.planning.declaration import Declaration
    from pytest_carthage.planning.plan import Plan

__all__ = ["begin", "forget", "former", "note", "told"]


def begin(
    environment: AsyncLayout,
    layout: type[Declaration],
    plan: Plan,
    request: pytest.FixtureRequest,
) -> None:
    """Begin the ledger of an environment that was built for a fixture.

    :param plan: as it was declared: machines may have set addresses since.
    :raises OSError: there is no room for it.
    """
    ledger.begin(
        environment.folder,
        layout,
        plan,
        fixture=request.fixturename or "",
        suite=_suite(request),
        target=settings_of(request.config).target,
    )


def _suite(request: pytest.FixtureRequest) -> str:
    """File or folder in which pytest has found a fixture."""
    definition = getattr(request, "_fixturedef", None)
    if definition is None:
        return ""
    node = getattr(definition, "node", None)  # from pytest 9 on
    path = request.config.rootpath / definition.baseid if node is None else node.path
    return str(path)


def former(stage: Stage, environments: Sequence[AsyncLayout]) -> Ran | None:
    """Find how a stage ran in environments that stand; None: in one of them it has not.

    :raises StateError: an environment is gone.
    """
    runs = [ledger.read(each.folder).stages.get(stage.name) for each in environments]
    return runs[0] if runs and all(run is not None for run in runs) else None


def told(stage: Stage, ran: Ran) -> str:
    """What to tell a person of a stage that does not run again."""
    at = time.strftime("%a %H:%M", time.localtime(ran.at_s))
    if ran.key == stage.key:
        return f"ran {at}"
    return f"ran {at}, and has changed since; to run it again: --carthage-again {stage.name}"


def note(stage: Stage, environments: Sequence[AsyncLayout], value: object) -> None:
    """Write that a stage has run; where that cannot be written, its environments say so."""
    for environment in environments:
        try:
            ledger.note_stage(environment.folder, stage, value)
        except (StateError, OSError) as error:
            environment.tell(f"stage {stage.name}", "note", f"not written down: {error}")


def forget(stage: Stage, environments: Sequence[AsyncLayout]) -> None:
    """Write that a stage has begun again, so that what it did before counts no more."""
    for environment in environments:
        try:
            ledger.forget_stage(environment.folder, stage.name)
        except (StateError, OSError) as error:
            environment.tell(f"stage {stage.name}", "note", f"not written down: {error}")
