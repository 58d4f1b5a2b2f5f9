"""The store of images that this user's podman has; nothing here changes it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["entry_point", "host_store", "image_ids"]


def image_ids() -> dict[str, str]:
    """Full name to id of the images in the store's own list; empty where it is kept otherwise.

    It is read as it is on disk: any program takes longer to say so.
    """
    driver, root = host_store()
    if root is None:
        return {}
    try:
        rows = json.loads((root / f"{driver}-images" / "images.json").read_text())
        return {name: row["id"] for row in rows for name in row.get("names") or ()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def entry_point(name: str) -> tuple[str, ...] | None:
    """Words with which an image begins whatever command it is given; None: that is not known.

    :param name: full name of an image in the store.
    """
    driver, root = host_store()
    number = image_ids().get(name)
    if root is None or number is None:
        return None
    # how containers/storage calls the file of a key that is no name of a file
    key = "=" + base64.b64encode(f"sha256:{number}".encode()).decode()
    try:
        record = json.loads((root / f"{driver}-images" / number / key).read_text())
        return tuple(record["config"].get("Entrypoint") or ())
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return None


def host_store() -> tuple[str, Path | None]:
    """Driver and folder of this user's store, see containers-storage.conf(5); None: there is none.

    Nothing is started for it: podman would leave a process, where it is not root.
    """
    if os.geteuid() == 0:
        table = _table(("/etc/containers/storage.conf", "/usr/share/containers/storage.conf"))
        usual = Path("/var/lib/containers/storage")
    else:
        home = Path(os.environ.get("HOME") or "/nonexistent")
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
        table = _table((str(config / "containers/storage.conf"),))
        usual = data / "containers/storage"
    root = Path(table.get("graphroot") or usual)
    drivers = [str(table["driver"])] if table.get("driver") else ["overlay", "vfs", "btrfs"]
    for driver in drivers:
        if (root / f"{driver}-images").is_dir():
            return driver, root
    return drivers[0], None


def _table(usual: Sequence[str]) -> Mapping[str, Any]:
    chosen = os.environ.get("CONTAINERS_STORAGE_CONF")
    for candidate in (chosen,) if chosen else usual:
        with contextlib.suppress(OSError, ValueError):
            storage: Mapping[str, Any] = tomllib.loads(Path(candidate).read_text())["storage"]
            return storage
    return {}
