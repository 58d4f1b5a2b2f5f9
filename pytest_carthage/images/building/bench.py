"""The folder in which a layer is made, and what of it becomes the layer."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.store import disk
from pytest_carthage.store.layer import FETCHED
from pytest_carthage.work.debian.status import STATUS, installed

if TYPE_CHECKING:
    from pytest_carthage.store.root import Store

__all__ = ["emptied", "leave_only_tree", "packages_of", "tools"]

_FORBID_SERVICES = "#!/bin/sh\n# nothing is started in an image that is not booted\nexit 101\n"


async def emptied(work: Path) -> Path:
    """Make a folder to work in; what a killed build has left there is deleted."""
    await asyncio.to_thread(disk.delete, work)
    # not in the thread: a build that is cancelled would go, and the folder come after it
    _make(work)
    return work


def _make(work: Path) -> None:
    work.mkdir(mode=0o755)
    (work / "tree").mkdir(mode=0o755)
    (work / "tree").chmod(0o755)
    (work / "logs").mkdir()


def leave_only_tree(work: Path) -> None:
    """Delete what was needed meanwhile."""
    for entry in work.iterdir():
        if entry.name in ("tree", FETCHED):
            continue
        if entry.is_dir():
            disk.delete(entry)
        else:
            entry.unlink(missing_ok=True)


def packages_of(tree: Path) -> dict[str, str] | None:
    """Name to version of the packages in a layer; None: it says nothing of packages."""
    try:
        status = (tree / STATUS).read_bytes()
    except OSError:
        return None
    return installed(status)


def tools(store: Store) -> Path:
    """The lowest layer of a workshop: what is there meanwhile, and is in no image."""
    folder = store.root / "tools"
    policy = folder / "usr/sbin/policy-rc.d"
    if not policy.exists():
        policy.parent.mkdir(parents=True, exist_ok=True)
        (folder / "etc").mkdir(exist_ok=True)
        (folder / "etc/resolv.conf").write_text("")
        (folder / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        # another build, of this process or another one, may make it at this very moment
        new = policy.with_name(f"policy-rc.d.{secrets.token_hex(4)}")
        new.write_text(_FORBID_SERVICES)
        new.chmod(0o755)
        new.rename(policy)
    return folder
