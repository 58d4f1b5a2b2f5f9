"""The host's own image store: where it is, and what is in it. Nothing here changes it."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PATH", "Store", "find_store", "has_image", "image_names"]

#: where programs of the host are looked for
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_DEFAULT_ROOT = "/var/lib/containers/storage"
#: options of the overlay driver without which its layers cannot be mounted here
_OVERLAY_OPTIONS = ("mount_program", "mountopt", "ignore_chown_errors", "force_mask")
_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where the host's podman keeps its images, see containers-storage.conf(5)."""

    root: Path = Path(_DEFAULT_ROOT)
    driver: str = "overlay"
    #: read-only stores that the host's own configuration adds
    additional: tuple[str, ...] = ()
    overlay: Mapping[str, str] = field(default_factory=dict)

    def configuration(self, *, root: Path, run_root: str) -> str:
        """Text of a storage.conf: containers at ``root``, images of this store below them."""
        stores = [str(self.root), *self.additional]
        lines = [
            "[storage]",
            f"driver = {json.dumps(self.driver)}",
            f"graphroot = {json.dumps(str(root))}",
            f"runroot = {json.dumps(run_root)}",
            "[storage.options]",
            f"additionalimagestores = {json.dumps(stores)}",
        ]
        if self.overlay:
            lines.append("[storage.options.overlay]")
            lines += [f"{name} = {json.dumps(value)}" for name, value in self.overlay.items()]
        return "\n".join(lines) + "\n"


def find_store(candidates: tuple[str, ...] | None = None) -> Store:
    """Read where the host's store is; podman's defaults where nothing says so."""
    if candidates is None:
        chosen = os.environ.get("CONTAINERS_STORAGE_CONF")
        usual = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
        candidates = (chosen,) if chosen else usual
    for candidate in candidates:
        try:
            table = tomllib.loads(Path(candidate).read_text()).get("storage", {})
        except (OSError, ValueError):
            continue  # podman itself says what is wrong with it
        return _from_table(table)
    return Store()


def _from_table(table: Mapping[str, Any]) -> Store:
    options = table.get("options", {})
    overlay = {**options, **options.get("overlay", {})}
    return Store(
        root=Path(table.get("graphroot") or _DEFAULT_ROOT),
        driver=table.get("driver") or "overlay",
        additional=tuple(options.get("additionalimagestores", ())),
        overlay={name: str(overlay[name]) for name in _OVERLAY_OPTIONS if overlay.get(name)},
    )


def _podman(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["podman", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        env={**os.environ, "PATH": PATH},
    )


def has_image(reference: str) -> bool:
    """Whether the host's store has this image.

    :raises OSError: podman could not be asked, with what it printed.
    """
    if reference in _full_names(find_store()):
        return True
    # slower by some 25 ms, and the judge of abbreviations
    done = _podman("image", "exists", reference)
    if done.returncode > 1:
        raise OSError(f"podman image exists {reference}: {done.stderr.strip()}")
    return done.returncode == 0


def _full_names(where: Store) -> set[str]:
    """Names in the store's own list, without any that a newer podman keeps in another way."""
    try:
        rows = json.loads((where.root / f"{where.driver}-images" / "images.json").read_text())
        return {name for row in rows for name in row.get("names") or ()}
    except (OSError, ValueError, AttributeError, TypeError):
        return set()


def image_names() -> list[str]:
    """Names of all images in the host's store, sorted."""
    done = _podman("images", "--format", "{{.Repository}}:{{.Tag}}")
    return sorted({line for line in done.stdout.split() if "<none>" not in line})
