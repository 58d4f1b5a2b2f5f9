"""What the making of a base is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BaseResult", "BaseTools"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseTools:
    """What the making of a base is given."""

    #: is told what happens, in a few words
    note: Callable[[str], None]
    #: nothing is fetched; what is missing is named
    offline: bool = False
    #: False: it is done in a user namespace, with the subordinate ids of this user
    privileged: bool = True
    #: folder for what is worth keeping between builds
    cache: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseResult:
    """What is known of a base beside its files."""

    #: fields of :class:`pytest_carthage.model.image.ImageConfig`, ``env`` and ``labels`` as
    #: mappings; or nothing
    config: Mapping[str, Any] = field(default_factory=dict)
    #: what it was made of: the id of an image, the hash of a file; empty where nothing was said
    digest: str = ""
