"""Units of systemd: enabled and disabled, whether it runs or not."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_carthage.errors import CommandError, TaskError
from pytest_carthage.handles.system import Runs

__all__ = ["disable", "enable"]

#: exit status of a shell that knows no such command
_NO_PROGRAM = 127


async def enable(system: Runs, units: Sequence[str]) -> None:
    """Enable units; where systemd runs, start them, too.

    :raises TaskError: there is no such unit, or no systemd.
    """
    await _switch(system, "enable", units)


async def disable(system: Runs, units: Sequence[str]) -> None:
    """Disable units; where systemd runs, stop them, too.

    :raises TaskError: there is no such unit, or no systemd.
    """
    await _switch(system, "disable", units)


async def _switch(system: Runs, verb: str, units: Sequence[str]) -> None:
    try:
        if await system.exists("/run/systemd/system"):
            await system.run(["systemctl", "daemon-reload"])
            await system.run(["systemctl", verb, "--now", "--quiet", *units])
        else:
            offline = {"SYSTEMD_OFFLINE": "1"}
            await system.run(["systemctl", verb, "--quiet", *units], env=offline)
    except CommandError as error:
        if error.result.status == _NO_PROGRAM:
            raise TaskError(
                f"{system.who}: no systemd to {verb} {', '.join(units)}; "
                'try: the package "systemd-sysv" first'
            ) from error
        raise TaskError(f"{system.who}: cannot {verb} {', '.join(units)}: {error}") from error
