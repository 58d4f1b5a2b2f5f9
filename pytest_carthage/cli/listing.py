"""A live environment for programs, and who built it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.leftovers import leftover_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_carthage.state.leftovers import Leftover
    from pytest_carthage.state.listing import Listed

__all__ = ["ended_records", "has_owner", "record"]


def has_owner(environment: Listed) -> bool:
    """Whether the process that built it is alive, and still answers for it."""
    return environment.owned and _exists(environment.owner_pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def record(environment: Listed) -> dict[str, Any]:
    """It in plain values."""
    return {
        "name": environment.name,
        "run": environment.run,
        "layout": environment.layout,
        "machines": environment.machines,
        "networks": environment.description.get("networks", {}),
        "created_at": environment.created_at,
        "kept": environment.kept,
        "expires_at": environment.expires_at,
        "owner_pid": environment.owner_pid,
        "owner_alive": has_owner(environment),
        "folder": str(environment.folder),
        "socket": str(environment.socket),
        "alive": True,
        "leftovers": [],
    }


def ended_records(leftovers: Sequence[Leftover]) -> list[dict[str, Any]]:
    """Environments that are gone but for what could not be destroyed, as :func:`record` has it."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for leftover in leftovers:
        name = leftover.identity.environment
        row = rows.setdefault(
            (leftover.identity.run, name),
            {
                "name": name,
                "run": leftover.run,
                "layout": None,
                "machines": {},
                "networks": {},
                "created_at": None,
                "kept": False,
                "expires_at": None,
                "owner_pid": None,
                "owner_alive": False,
                "folder": str(leftover.folder / "envs" / name),
                "socket": None,
                "alive": False,
                "leftovers": [],
            },
        )
        row["leftovers"].append(leftover_record(leftover))
    return list(rows.values())
