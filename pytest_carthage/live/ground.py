"""What a live layout stands on: this host as it is, and an environment that has a fabric."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from pytest_carthage.errors import FabricError, HostError, Problem, StateError
from pytest_carthage.fabric.host import privilege
from pytest_carthage.live.runs import Fabric, Run
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.sketch import sketch
from pytest_carthage.providing import Providers, check
from pytest_carthage.state import places

__all__ = ["begin", "look"]

#: of a kernel that has no room for a fabric, or does not allow it
_REFUSALS = (errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EACCES)


def look(plan: Plan, providers: Providers) -> Sequence[Problem]:
    """Look at the host; returns what it is only expected to lack.

    :raises HostError: it lacks something.
    """
    problems = check(plan, providers)
    if lacking := [problem for problem in problems if not problem.is_guess]:
        raise HostError(lacking)
    return problems


async def begin(run: Run, name: str, plan: Plan) -> tuple[Path, Fabric]:
    """Begin an environment; returns its private folder and the connection to its fabric.

    :raises HostError: the kernel does not allow a fabric.
    :raises StateError: the disk is full.
    """
    try:
        return await run.environment(name, sketch(plan), unprivileged=not privilege.is_privileged())
    except FabricError as error:
        if error.errno not in _REFUSALS:
            raise
        if error.errno == errno.ENOSPC and (full := places.lack_of_space()):
            raise StateError(full) from error
        raise HostError([privilege.refused(str(error))]) from error
