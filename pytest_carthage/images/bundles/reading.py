"""Reading a bundle: what it says of itself, and whether all of it is as it says."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from pytest_carthage.errors import BundleError
from pytest_carthage.images.bundles.compression import decompressed
from pytest_carthage.images.bundles.manifest import (
    MANIFEST,
    Foreign,
    Manifest,
    OtherVersion,
    valid_key,
)
from pytest_carthage.store.layer import LayerMeta

__all__ = ["check", "opened", "read_manifest"]

_CHUNK = 1 << 20
_LARGEST_MANIFEST = 64 << 20


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The tar, read from its beginning.

    :raises BundleError: it is damaged.
    """
    damaged = f"bundle {path}: it is damaged, or no bundle"
    with decompressed(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|", errors="surrogateescape") as tar:
                yield tar
        except tarfile.TarError as error:
            raise BundleError(f"{damaged}: {error}") from error


def read_manifest(path: Path) -> Manifest:
    """What a bundle says of itself.

    :raises BundleError: it is none, is damaged, or of another version or processor.
    """
    if not path.is_file():
        raise BundleError(f"bundle {path}: there is no such file")
    foreign = f"bundle {path}: it is no bundle of pytest-carthage"
    with opened(path) as tar:
        first = tar.next()
        if first is None or first.name != MANIFEST or not first.isfile():
            raise BundleError(f"{foreign}; try: a file that `pytest-carthage bundle` has written")
        if first.size > _LARGEST_MANIFEST:
            raise BundleError(f"{foreign}: its {MANIFEST} has {first.size} bytes")
        file = tar.extractfile(first)
        assert file is not None
        data = file.read()
    try:
        manifest = Manifest.parse(data)
    except Foreign:
        raise BundleError(foreign) from None
    except OtherVersion as error:
        raise BundleError(
            f"bundle {path}: {error}; try: the pytest-carthage that has written it"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise BundleError(f"bundle {path}: its {MANIFEST} is damaged ({fault})") from error
    here = os.uname().machine
    if manifest.architecture != here:
        raise BundleError(
            f"bundle {path}: its images are for {manifest.architecture}, and this host is {here}"
        )
    return manifest


def check(path: Path, manifest: Manifest) -> dict[str, LayerMeta]:
    """Read all of it, and compare with what it is to be; returns what is known of the layers.

    :raises BundleError: something is missing, or is not what it was.
    """
    metas: dict[str, LayerMeta] = {}
    damaged = f"bundle {path}: it is damaged"
    again = "try: to copy it once more"
    wanted = iter(manifest.members.items())
    with opened(path) as tar:
        for number, info in enumerate(tar):
            if number == 0:  # the manifest itself
                continue
            name, member = next(wanted, ("", None))
            if member is None or info.name.rstrip("/") != name or _kind(info) != member.kind:
                raise BundleError(f"{damaged}: {info.name!r} does not belong to it; {again}")
            if member.kind == "link" and info.linkname != member.target:
                raise BundleError(f"{damaged}: {name} leads to {info.linkname!r}; {again}")
            if member.kind != "file":
                continue
            file = tar.extractfile(info)
            assert file is not None
            is_meta = name.startswith("layers/") and name.endswith("/layer.json")
            digest, kept = hashlib.sha256(), b""
            while data := file.read(_CHUNK):
                digest.update(data)
                kept += data if is_meta else b""
            if digest.hexdigest() != member.sha256 or info.size != member.size:
                raise BundleError(f"{damaged}: {name} is not what it was; {again}")
            if is_meta:
                meta = _meta(name, kept, damaged)
                metas[meta.key] = meta
    left = next(wanted, None)
    if left is not None:
        raise BundleError(f"{damaged}: it ends before {left[0]}; {again}")
    for meta in metas.values():
        if meta.parent is not None and meta.parent not in metas:
            raise BundleError(f"{damaged}: the layer below {meta.key} is not in it")
    return metas


def _kind(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "folder"
    if info.issym():
        return "link"
    return "file" if info.isfile() else "other"


def _meta(name: str, data: bytes, damaged: str) -> LayerMeta:
    try:
        meta = LayerMeta.of(json.loads(data))
        if name.split("/")[1] != valid_key(meta.key):
            raise ValueError(f"its key is {meta.key}")
        for key in (meta.declared, meta.parent or meta.key):
            valid_key(key)
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{damaged}: {name}: {error}") from error
    return meta
