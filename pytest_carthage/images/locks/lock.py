"""What a layout was built from, to the version: ``carthage.lock``, a text for people and diffs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import LockError
from pytest_carthage.store.root import pending

if TYPE_CHECKING:
    from pytest_carthage.model.image import Image

__all__ = ["NAME", "VERSION", "Ansible", "Lock", "LockedImage", "LockedLayer"]

#: what the file is called, beside that of the layout
NAME = "carthage.lock"
#: of the file's format
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedLayer:
    """One layer of an image."""

    #: in the store
    key: str
    title: str
    #: key of the step as it is declared; empty: the base
    step: str
    #: digest of the names and versions of the packages that are there with it
    packages: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedImage:
    """What one image was."""

    #: key of its declaration
    declared: str
    #: what it begins with, for people
    base: str
    #: what that was made of; of a Debian, the digest of its packages
    digest: str
    #: the base first
    layers: tuple[LockedLayer, ...]
    #: name to version of all packages
    packages: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ansible:
    """The Ansible that images or stages use."""

    version: str
    #: name to version
    collections: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock of one layout."""

    #: where it is, or is to be
    path: Path
    layout: str
    #: by the name that the layout knows them by
    images: Mapping[str, LockedImage]
    #: path to hash of what tasks have read of the host
    files: Mapping[str, str]
    #: None: neither an image nor a stage uses it
    ansible: Ansible | None = None

    @classmethod
    def load(cls, path: Path) -> Lock:
        """Read a lock.

        :raises LockError: it is missing, damaged, or of another version.
        """
        again = "try: pytest-carthage lock LAYOUT, which writes it"
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError:
            raise LockError(f"lock {path}: there is none; {again}") from None
        except OSError as error:
            raise LockError(f"lock {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise LockError(f"lock {path}: it is damaged ({error}); {again} anew") from error
        version = record.get("version") if isinstance(record, dict) else None
        if version != VERSION:
            fault = "it is no lock" if version is None else f"its version is {version!r}"
            raise LockError(f"lock {path}: {fault}, and not {VERSION}; {again} anew")
        try:
            return _lock(path, record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            fault = f"{type(error).__name__}: {error}"
            raise LockError(f"lock {path}: it is damaged ({fault}); {again} anew") from error

    @property
    def text(self) -> str:
        """What is in the file: JSON, the same for the same."""
        record = {
            "version": VERSION,
            "layout": self.layout,
            "images": {name: _record(self.images[name]) for name in sorted(self.images)},
            "files": dict(sorted(self.files.items())),
            "ansible": None,
        }
        if self.ansible is not None:
            collections = dict(sorted(self.ansible.collections.items()))
            record["ansible"] = {"version": self.ansible.version, "collections": collections}
        return json.dumps(record, indent=2, ensure_ascii=False) + "\n"

    def save(self) -> None:
        """Write it; others see it whole or not at all.

        :raises LockError: it cannot be written.
        """
        try:
            pending().write(self.path, self.text)
        except OSError as error:
            raise LockError(f"lock {self.path}: it cannot be written: {error.strerror}") from error

    def of(self, image: Image) -> LockedImage | None:
        """What was locked of an image that is declared like this one."""
        key = image.key
        return next((locked for locked in self.images.values() if locked.declared == key), None)


# JSON


def _record(image: LockedImage) -> dict[str, Any]:
    return {
        "declared": image.declared,
        "base": {"made_of": image.base, "digest": image.digest},
        "layers": [asdict(layer) for layer in image.layers],
        "packages": dict(sorted(image.packages.items())),
    }


def _lock(path: Path, record: Mapping[str, Any]) -> Lock:
    images = {_text(name): _image(row) for name, row in record["images"].items()}
    ansible = record["ansible"]
    return Lock(
        path=path,
        layout=_text(record["layout"]),
        images=images,
        files=_texts(record["files"]),
        ansible=None if ansible is None else _ansible(ansible),
    )


def _image(record: Mapping[str, Any]) -> LockedImage:
    layers = tuple(LockedLayer(**_texts(layer)) for layer in record["layers"])
    if not layers:
        raise ValueError("an image without layers")
    return LockedImage(
        declared=_text(record["declared"]),
        base=_text(record["base"]["made_of"]),
        digest=_text(record["base"]["digest"]),
        layers=layers,
        packages=_texts(record["packages"]),
    )


def _ansible(record: Mapping[str, Any]) -> Ansible:
    return Ansible(version=_text(record["version"]), collections=_texts(record["collections"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(record: Mapping[str, object]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in record.items()}
