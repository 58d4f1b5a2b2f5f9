"""Digests of what images are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.work.debian import status

if TYPE_CHECKING:
    from pytest_carthage.store.layer import Layer, LayerMeta

__all__ = ["base_digest", "short", "states", "versions_digest"]


def versions_digest(packages: Mapping[str, str]) -> str:
    """Digest of names and versions; empty: there are none."""
    if not packages:
        return ""
    text = "".join(f"{name}={packages[name]}\n" for name in sorted(packages))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def base_digest(meta: LayerMeta, tree: Path) -> str:
    """What a base was made of: its packages, or what is known of where it came from."""
    if meta.digest:
        return meta.digest
    try:
        return status.digest((tree / status.STATUS).read_bytes())
    except OSError:
        return ""


def states(layers: Sequence[Layer]) -> Iterator[Mapping[str, str]]:
    """The packages that are there with each layer, the base first."""
    there: Mapping[str, str] = {}
    for layer in layers:
        if layer.meta.packages is not None:
            there = layer.meta.packages
        yield there


def short(digest: str) -> str:
    """A digest for people."""
    kind, colon, digits = digest.rpartition(":")
    return f"{kind}{colon}{digits[:12]}" if digits else "nothing"
