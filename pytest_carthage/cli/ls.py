"""``pytest-carthage ls``: what is alive."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from pytest_carthage.cli.output import add_json, print_json, print_table

if TYPE_CHECKING:
    from pytest_carthage.state.run import Listed


def add(commands: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "ls",
        help="list live environments",
        description="List live environments: name, layout, machines, age, how long they stay, "
        "and the process that built them.",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print them, oldest first."""
    from pytest_carthage.report.kept import age, expiry
    from pytest_carthage.state.run import list_environments

    there = list_environments()
    now_s = time.time()
    if arguments.json:
        print_json([row(one) for one in there])
        return 0
    if not there:
        print("no environment is alive")
        return 0
    print_table(
        ("ENVIRONMENT", "LAYOUT", "MACHINES", "AGE", "STAYS", "OWNER"),
        [
            (
                one.name,
                one.layout,
                _several(list(one.machines)),
                age(now_s - one.created_at),
                expiry(kept=one.kept, expires_at=one.expires_at, now_s=now_s),
                _owner(one),
            )
            for one in there
        ],
    )
    return 0


def _several(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, and {len(names) - most} more" if len(names) > most else shown or "-"


def _owner_alive(one: Listed) -> bool:
    return one.owned and _exists(one.owner_pid)


def _owner(one: Listed) -> str:
    return f"pid {one.owner_pid}" if _owner_alive(one) else "gone"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def row(one: Listed) -> dict[str, Any]:
    """Describe an environment for programs."""
    return {
        "name": one.name,
        "run": one.run,
        "layout": one.layout,
        "machines": one.machines,
        "networks": one.description.get("networks", {}),
        "created_at": one.created_at,
        "kept": one.kept,
        "expires_at": one.expires_at,
        "owner_pid": one.owner_pid,
        "owner_alive": _owner_alive(one),
        "folder": str(one.folder),
        "socket": str(one.socket),
    }
