"""What a bundle says of itself: its first member, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pytest_carthage.images.bundles.requirements import Requirement

__all__ = ["MANIFEST", "Foreign", "Manifest", "Member", "OtherVersion", "leads_inside", "valid_key"]

#: the first member
MANIFEST = "carthage-bundle.json"

_FORMAT = "pytest-carthage bundle"
_VERSION = 1
_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Foreign(ValueError):
    """What was read is no manifest of a bundle."""


class OtherVersion(ValueError):
    """The manifest is of another version of the format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of the tar."""

    #: "file", "folder" or "link"
    kind: str
    #: permission bits
    mode: int = 0o644
    size: int = 0
    sha256: str = ""
    #: where a link leads to
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a bundle."""

    #: name of the layout's class
    layout: str
    #: folder below that of the tests in which pytest is started
    folder: str
    #: as the kernel calls the processor
    architecture: str
    #: kinds of the providers that the layout's machines need
    targets: tuple[str, ...]
    requires: tuple[Requirement, ...]
    #: key, name, tag, keys of layers and configuration of each image
    images: tuple[Mapping[str, Any], ...]
    #: keys, the base first, each below those that stand on it
    layers: tuple[str, ...]
    #: bytes on disk of each layer
    sizes: Mapping[str, int]
    #: name to what it is, in the order of the tar
    members: Mapping[str, Member] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As it is in the bundle: JSON."""
        record = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        return json.dumps(record, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Take it from what is in a bundle, which may come from anybody.

        :raises Foreign: it is of something else.
        :raises OtherVersion: of the format; its text is the version.
        :raises ValueError: something in it is wrong, or leads out of the bundle; so do
            KeyError, TypeError and AttributeError.
        """
        record = json.loads(data)
        if record["format"] != _FORMAT:
            raise Foreign(str(record["format"]))
        if record["version"] != _VERSION:
            raise OtherVersion(f"its version is {record['version']!r}, and not {_VERSION}")
        members = {_inside(name): _member(name, row) for name, row in record["members"].items()}
        _refuse_nested(members)
        layers = tuple(valid_key(key) for key in record["layers"])
        for key in layers:
            for name in (f"layers/{key}/layer.json", f"layers/{key}/tree.tar"):
                if name not in members:
                    raise ValueError(f"{name} is not listed")
        return cls(
            layout=_layout(record["layout"]),
            folder=_inside(record["folder"]),
            architecture=str(record["architecture"]),
            targets=tuple(map(str, record["targets"])),
            requires=tuple(
                Requirement(name=str(row["name"]), version=str(row["version"]))
                for row in record["requires"]
            ),
            images=tuple(map(_image, record["images"])),
            layers=layers,
            sizes={valid_key(key): int(size) for key, size in record["sizes"].items()},
            members=members,
        )


def leads_inside(name: str, target: str) -> bool:
    """Whether a symbolic link leads to what is in the same folder of tests.

    Steps up are at its beginning only: after another link they would lead who knows where.
    """
    parts = PurePosixPath(target).parts
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    depth = len(PurePosixPath(name).parts) - 1
    return not target.startswith("/") and ups <= depth and ".." not in parts[ups:]


def valid_key(value: object) -> str:
    """A key of a layer or an image.

    :raises ValueError: it is none.
    """
    if not isinstance(value, str) or _KEY.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no key")
    return value


def _image(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "key": valid_key(record["key"]),
        "name": str(record["name"]),
        "tag": record["tag"],
        "layers": [valid_key(key) for key in record["layers"]],
        "config": dict(record["config"]),
    }


def _layout(value: object) -> str:
    if not isinstance(value, str) or not value.isidentifier():
        raise ValueError(f"{value!r} is no name of a layout")
    return value


def _inside(name: str) -> str:
    """A name that leads nowhere else."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(f"{name!r} leads outside")
    return name


def _member(name: str, record: Mapping[str, Any]) -> Member:
    member = Member(
        kind=str(record["kind"]),
        mode=int(record["mode"]) & 0o755,
        size=int(record["size"]),
        sha256=str(record["sha256"]),
        target=str(record["target"]),
    )
    top = PurePosixPath(name).parts[:1]
    if top not in (("suite",), ("layers",)) or member.kind not in ("file", "folder", "link"):
        raise ValueError(f"{name!r} is nothing that a bundle has")
    if member.kind == "link" and not leads_inside(name.partition("/")[2], member.target):
        raise ValueError(f"{name!r} leads outside, to {member.target!r}")
    return member


def _refuse_nested(members: Mapping[str, Member]) -> None:
    """Nothing is below what is no folder."""
    for name in members:
        for parent in PurePosixPath(name).parents:
            above = members.get(str(parent))
            if above is not None and above.kind != "folder":
                raise ValueError(f"{name!r} is below {str(parent)!r}, which is a {above.kind}")
