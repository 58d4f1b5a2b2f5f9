"""Images as OCI images: laid out in a folder, in an archive, tagged in podman's store, pushed.

Sources: the OCI image specification (image-layout.md, manifest.md, config.md), skopeo-copy(1).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import BuildError
from pytest_carthage.images import export
from pytest_carthage.images.export import epoch, quiet, who
from pytest_carthage.images.host_store import image_ids
from pytest_carthage.images.store import write_atomically

if TYPE_CHECKING:
    from pytest_carthage.images.export import Note
    from pytest_carthage.images.store import Built, Layer

__all__ = [
    "LABEL",
    "HistoryEntry",
    "diff_id",
    "history",
    "push",
    "save_archive",
    "save_layout",
    "tag",
]

#: every image of ours has it; its value is the key of the declaration
LABEL = "carthage.image"

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_REF_NAME = "org.opencontainers.image.ref.name"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_NAME = re.compile(r"[a-z0-9]+([._/:-]+[a-zA-Z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """What was done for one layer, as ``docker history`` tells it."""

    #: key of the layer
    key: str
    title: str
    #: class of the role whose task it was; empty: none
    role: str
    command: str
    #: seconds since the epoch
    made_at: float
    #: seconds that it took
    seconds: float
    #: bytes on disk
    size: int


def history(built: Built) -> list[HistoryEntry]:
    """What was done, the base first."""
    return [
        HistoryEntry(
            key=layer.key,
            title=layer.meta.title,
            role=layer.meta.role,
            command=layer.meta.command or layer.meta.title,
            made_at=layer.meta.made_at,
            seconds=layer.meta.seconds,
            size=layer.meta.size,
        )
        for layer in built.layers
    ]


# layers


async def diff_id(layer: Layer) -> str:
    """Digest of the layer's plain tar, which is remembered.

    :raises BuildError: something in it cannot be in a tar.
    """
    known = _known(layer)
    if known is None:
        known = await _look(layer, -1, f"layer {layer.meta.title!r}")
    return known.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plain:
    """A layer's plain tar."""

    digest: str
    size: int
    is_empty: bool


def _beside(layer: Layer, name: str) -> Path:
    """A file of a layer that is only as good as the time that tars are limited to."""
    newest = epoch()
    return layer.path / (name if newest is None else f"{name}.{newest}")


def _known(layer: Layer) -> _Plain | None:
    try:
        digest, size, entries = _beside(layer, "diff_id").read_text().split()
        return _Plain(digest=digest, size=int(size), is_empty=entries == "0")
    except (OSError, ValueError):
        return None


async def _look(layer: Layer, out: int, doing: str) -> _Plain:
    """Hash a layer for the first time, and write it by the way."""
    packed = await export.pack(
        [layer.tree], out, doing=doing, places=[layer.path.parent], is_layer=True
    )
    _remember(layer, packed, doing)
    return _Plain(digest=packed.digest, size=packed.size, is_empty=not packed.entries)


def _remember(layer: Layer, packed: export.Packed, doing: str) -> None:
    try:
        text = f"{packed.digest} {packed.size} {packed.entries}\n"
        write_atomically(_beside(layer, "diff_id"), text)
    except OSError as error:
        raise export.failure(doing, error, layer.path) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blob:
    """A layer as it is in a layout."""

    plain: _Plain
    digest: str
    size: int
    #: the bytes, where they are on disk
    path: Path | None


async def _gzipped(layer: Layer, doing: str, note: Note) -> _Blob:
    """A layer's compressed tar: made once, kept with the layer."""
    path, facts = _beside(layer, "layer.tar.gz"), _beside(layer, "layer.tar.gz.json")
    plain = _known(layer)
    with contextlib.suppress(OSError, ValueError, KeyError):
        told = json.loads(facts.read_text())
        if plain is not None and path.stat().st_size == told["size"]:
            return _Blob(plain=plain, digest=told["digest"], size=told["size"], path=path)
    note(f"compressing {layer.meta.title}")
    with export.new_file(path, doing) as new:
        fd = os.open(new, os.O_WRONLY | os.O_CLOEXEC)
        try:
            packed = await export.pack(
                [layer.tree],
                fd,
                doing=doing,
                places=[layer.path.parent],
                is_layer=True,
                hashed=plain is None,
                compress=True,
            )
        finally:
            os.close(fd)
        told = {"digest": packed.packed_digest, "size": packed.packed_size}
        write_atomically(facts, json.dumps(told))
    if plain is None:
        _remember(layer, packed, doing)
        plain = _Plain(digest=packed.digest, size=packed.size, is_empty=not packed.entries)
    return _Blob(plain=plain, digest=told["digest"], size=told["size"], path=path)


async def _write_plain(layer: Layer, folder: Path, doing: str) -> _Plain:
    """Write a layer's plain tar into a folder, named by its digest."""
    known = _known(layer)
    new = folder / f"{layer.key}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        if known is None:
            known = await _look(layer, fd, doing)
        else:
            await export.pack(
                [layer.tree],
                fd,
                doing=doing,
                places=[folder],
                is_layer=True,
                hashed=False,
            )
    finally:
        os.close(fd)
    new.replace(folder / _hex(known.digest))
    return known


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


# descriptions


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _stamp(seconds: float) -> str:
    """A time as RFC 3339 has it, no newer than SOURCE_DATE_EPOCH."""
    newest = epoch()
    if newest is not None:
        seconds = min(seconds, newest)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds)))


def _config(built: Built, layers: Sequence[_Plain]) -> bytes:
    """The image's configuration, which says what its layers are."""
    told = built.config
    config: dict[str, Any] = {"Labels": {**dict(told.labels), LABEL: built.image.key}}
    if told.command is not None:
        config["Cmd"] = list(told.command)
    if told.env:
        config["Env"] = [f"{name}={value}" for name, value in told.env]
    if told.user:
        config["User"] = told.user
    if told.workdir:
        config["WorkingDir"] = told.workdir
    if (check := told.healthcheck) is not None:
        # not in the OCI specification; Docker's image specification v1.2 has it, in nanoseconds
        config["Healthcheck"] = {
            "Test": ["CMD", *check.command],
            "Interval": int(check.interval_s * 1e9),
            "Timeout": int(check.timeout_s * 1e9),
            "Retries": check.retries,
        }
    done = []
    for number, (entry, layer) in enumerate(zip(history(built), layers, strict=True)):
        row: dict[str, Any] = {"created": _stamp(entry.made_at), "created_by": entry.command}
        if entry.title != entry.command:
            row["comment"] = entry.title
        if _is_left_out(number, layer):
            row["empty_layer"] = True
        done.append(row)
    machine = os.uname().machine
    return _json(
        {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "config": config,
            "created": _stamp(max(layer.meta.made_at for layer in built.layers)),
            "history": done,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": _diff_ids(layers)},
        }
    )


def _is_left_out(number: int, layer: _Plain) -> bool:
    """Whether a layer exists in the history only; no image is without any."""
    return layer.is_empty and number > 0


def _diff_ids(layers: Sequence[_Plain]) -> list[str]:
    return [one.digest for number, one in enumerate(layers) if not _is_left_out(number, one)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    """The small files of a layout, and what they are about."""

    #: by their names in the layout
    files: Mapping[str, bytes]
    #: digest of the manifest
    digest: str


def _describe(built: Built, config: bytes, blobs: Sequence[_Blob], *, compress: bool) -> _Described:
    layers = [
        {
            "mediaType": f"{_LAYER}+gzip" if compress else _LAYER,
            "digest": blob.digest,
            "size": blob.size,
        }
        for number, blob in enumerate(blobs)
        if not _is_left_out(number, blob.plain)
    ]
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": _digest(config), "size": len(config)},
            "layers": layers,
        }
    )
    row: dict[str, Any] = {
        "mediaType": _MANIFEST,
        "digest": _digest(manifest),
        "size": len(manifest),
    }
    name = built.image.tag or built.image.name
    if _NAME.fullmatch(name):
        row["annotations"] = {_REF_NAME: name}
    index = {"schemaVersion": 2, "manifests": [row]}
    return _Described(
        files={
            "oci-layout": _LAYOUT,
            "index.json": _json(index),
            f"blobs/sha256/{_hex(_digest(config))}": config,
            f"blobs/sha256/{_hex(_digest(manifest))}": manifest,
        },
        digest=_digest(manifest),
    )


def _write_files(folder: Path, described: _Described) -> None:
    for name, data in described.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# layouts and archives


async def save_layout(built: Built, folder: Path, *, compress: bool, note: Note = quiet) -> str:
    """Write an OCI image layout into a new folder, or in place of an old layout.

    :returns: digest of the manifest.
    :raises BuildError: it cannot be written, or the folder holds something else.
    """
    folder = export.absolute(folder)
    doing = f"{who(built)}: saved as {folder}"
    if _has_something_else(folder):
        raise BuildError(f"{doing}: there is something that is no image layout; try: another name")
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    try:
        blobs_folder = new / "blobs" / "sha256"
        blobs_folder.mkdir(parents=True)
        blobs = []
        for number, layer in enumerate(built.layers):
            note(f"saving {layer.meta.title}")
            blob = await _into(layer, blobs_folder, doing, note, compress=compress)
            if _is_left_out(number, blob.plain):
                (blobs_folder / _hex(blob.digest)).unlink(missing_ok=True)
            blobs.append(blob)
        config = _config(built, [blob.plain for blob in blobs])
        described = _describe(built, config, blobs, compress=compress)
        _write_files(new, described)
        await asyncio.to_thread(_replace_folder, new, folder)
    except OSError as error:
        raise export.failure(doing, error, folder.parent) from error
    finally:
        await asyncio.to_thread(shutil.rmtree, new, True)
    return described.digest


async def _into(layer: Layer, folder: Path, doing: str, note: Note, *, compress: bool) -> _Blob:
    """Write a layer into a folder, named by its digest."""
    if not compress:
        plain = await _write_plain(layer, folder, doing)
        return _Blob(plain=plain, digest=plain.digest, size=plain.size, path=None)
    blob = await _gzipped(layer, doing, note)
    assert blob.path is not None
    await asyncio.to_thread(shutil.copyfile, blob.path, folder / _hex(blob.digest))
    return blob


def _has_something_else(folder: Path) -> bool:
    """Whether there is something that is no layout."""
    if not folder.is_dir():
        return folder.exists()
    return not (folder / "oci-layout").exists() and any(folder.iterdir())


def _replace_folder(new: Path, folder: Path) -> None:
    old = new.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


async def save_archive(built: Built, path: Path, *, note: Note = quiet) -> None:
    """Write an OCI archive: a layout as one tar, for ``podman load`` and skopeo.

    With SOURCE_DATE_EPOCH the same files give the same bytes.

    :raises BuildError: it cannot be written; nothing is then left of it.
    """
    path = export.absolute(path)
    doing = f"{who(built)}: saved as {path}"
    with export.new_file(path, doing) as new:
        blobs = [await _gzipped(layer, doing, note) for layer in built.layers]
        config = _config(built, [blob.plain for blob in blobs])
        described = _describe(built, config, blobs, compress=True)
        note(f"writing {path.name}")
        await asyncio.to_thread(_write_archive, new, described, blobs)


def _write_archive(path: Path, described: _Described, blobs: Sequence[_Blob]) -> None:
    import io
    import tarfile

    stored = {
        f"blobs/sha256/{_hex(blob.digest)}": blob.path
        for number, blob in enumerate(blobs)
        if blob.path is not None and not _is_left_out(number, blob.plain)
    }
    # what says where the rest is comes first
    names = ["oci-layout", "index.json"]
    names += sorted({*described.files, *stored} - set(names))
    with (
        path.open("r+b") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in names:
            info = tarfile.TarInfo(name)
            info.mtime = epoch() or 0
            info.mode = 0o644
            if name in described.files:
                data = described.files[name]
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                continue
            source = stored[name]
            info.size = source.stat().st_size
            with source.open("rb") as blob:
                tar.addfile(info, blob)


# podman's store


async def tag(built: Built, reference: str, *, note: Note = quiet) -> None:
    """Give the image a name in the host's podman store; only layers that it lacks are written.

    :raises BuildError: the name belongs to an image of somebody else, or it cannot be stored.
    :raises HostError: this host has no skopeo.
    """
    reference = full_name(reference)
    doing = f"{who(built)}: tagged {reference}"
    export.require("skopeo")
    known = [_known(layer) for layer in built.layers]
    layers = [one for one in known if one is not None]
    if len(layers) == len(known) and await asyncio.to_thread(
        _is_tagged, reference, _digest(_config(built, layers))
    ):
        return
    there = await _tagged(reference, doing)
    _refuse_foreign(there, reference, doing)
    present = set((there or {}).get("rootfs", {}).get("diff_ids") or ())
    if sum(one is None or one.digest not in present for one in known) > 1:
        present |= await _layers_of_others()
    before = (await asyncio.to_thread(image_ids)).get(reference)
    note(f"tagging {reference}")
    async with export.room(built.store, doing) as folder:
        try:
            await _copy_to_podman(built, reference, folder, present, doing)
        except BuildError:
            if not present:
                raise
            # what podman says of its layers and what it does need not agree
            await _copy_to_podman(built, reference, folder, set(), doing)
    if before is not None:
        await _remove_nameless(before)


async def _remove_nameless(identity: str) -> None:
    """Remove an image of ours that has lost its last name, unless a container stands on it."""
    if identity not in (await asyncio.to_thread(image_ids)).values():
        with contextlib.suppress(BuildError):
            name = f"containers-storage:@{identity}"
            await export.run(["skopeo", "delete", name], doing="an image without a name")


def full_name(reference: str) -> str:
    """A name as podman stores it: with a host (``localhost``) and a tag (``latest``)."""
    first, slash, _ = reference.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        reference = f"localhost/{reference}"
    if ":" not in reference.rpartition("/")[2]:
        reference += ":latest"
    return reference


async def _copy_to_podman(
    built: Built, reference: str, folder: Path, present: set[str], doing: str
) -> None:
    layers = []
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    for layer in built.layers:
        known = _known(layer)
        if known is None or known.digest not in present:
            known = await _write_plain(layer, blobs, doing)
        layers.append(known)
    described = _describe(
        built,
        _config(built, layers),
        [_Blob(plain=one, digest=one.digest, size=one.size, path=None) for one in layers],
        compress=False,
    )
    _write_files(folder, described)
    store = [] if built.config.healthcheck is None else ["--format", "v2s2"]
    await export.run(
        [
            *("skopeo", "copy", "--quiet", "--insecure-policy", *store),
            f"oci:{folder}",
            f"containers-storage:{reference}",
        ],
        doing=doing,
        places=[folder, Path("/var/tmp"), Path("/var/lib/containers")],
    )


def _is_tagged(reference: str, config: str) -> bool:
    """Whether the store says that this name is an image with this configuration.

    False: somebody has to be asked.
    """
    return image_ids().get(reference) == _hex(config)


async def _tagged(reference: str, doing: str) -> dict[str, Any] | None:
    """Configuration of the image that has a name now; None: there is none."""
    inspect = ("skopeo", "inspect", "--config", f"containers-storage:{reference}")
    try:
        told: dict[str, Any] = json.loads(await export.run(inspect, doing=doing))
    except BuildError as error:
        if "does not resolve to an image ID" in str(error):
            return None
        raise
    return told


async def _layers_of_others() -> set[str]:
    """Digests of layers that podman has for other images of ours; not all need be found."""
    if os.geteuid() != 0 or export.check_tools(["podman"]):
        return set()  # without root podman leaves a process
    try:
        listing = ["podman", "images", "--quiet", "--no-trunc", "--filter", f"label={LABEL}"]
        ids = sorted(set((await export.run(listing, doing="podman's images")).split()))
        if not ids:
            return set()
        rows = await export.run(["podman", "image", "inspect", *ids], doing="podman's images")
        return {one for row in json.loads(rows) for one in row["RootFS"]["Layers"] or ()}
    except (BuildError, ValueError, KeyError):  # one was removed meanwhile
        return set()


def _refuse_foreign(there: Mapping[str, Any] | None, reference: str, doing: str) -> None:
    if there is None or LABEL in (there.get("config", {}).get("Labels") or {}):
        return
    created = str(there.get("created", ""))[:10]
    raise BuildError(
        f"{doing}: that name belongs to another image, which was not built here (it has no "
        f"label {LABEL}, and is of {created or 'an unknown date'}); try: another tag=, or give "
        f"that image another name: podman tag {reference} OTHER; "
        f"podman untag {reference} {reference}"
    )


# registries


async def push(built: Built, destination: str, *, note: Note = quiet) -> None:
    """Push the image; layers that the registry has are not sent again.

    TLS and passwords are skopeo's own business, see containers-registries.conf(5) and
    skopeo-login(1). A registry on the loopback interface may be without TLS.

    :param destination: as in ``"docker://registry.example:5000/name:tag"``.
    :raises BuildError: the registry cannot be reached, or refuses it.
    :raises HostError: this host has no skopeo.
    """
    doing = f"{who(built)}: pushed to {destination}"
    host, _, rest = destination.removeprefix("docker://").partition("/")
    if not destination.startswith("docker://") or not rest:
        raise BuildError(
            f"{doing}: that is no registry's address; try: docker://HOST:PORT/NAME:TAG"
        )
    export.require("skopeo")
    async with export.room(built.store, doing) as folder:
        blobs = [await _gzipped(layer, doing, note) for layer in built.layers]
        described = _describe(
            built, _config(built, [blob.plain for blob in blobs]), blobs, compress=True
        )
        _write_files(folder, described)
        for blob in blobs:
            assert blob.path is not None
            link = folder / "blobs" / "sha256" / _hex(blob.digest)
            if not link.is_symlink():
                link.symlink_to(blob.path)
        note(f"pushing to {host}")
        # podman heeds a healthcheck in Docker's format only
        form = [] if built.config.healthcheck is None else ["--format", "v2s2"]
        tls = ["--dest-tls-verify=false"] if _is_loopback(host) else []
        await export.run(
            [
                *("skopeo", "copy", "--quiet", "--insecure-policy", *form, *tls),
                f"oci:{folder}",
                destination,
            ],
            doing=doing,
            places=[folder],
            advice=lambda said: _push_advice(said, host),
        )


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _push_advice(said: str, host: str) -> str:
    text = said.lower()
    if "unauthorized" in text or "denied" in text or "authentication required" in text:
        return f"try: skopeo login {host}"
    if "x509" in text:
        return f"try: put the registry's CA in /etc/containers/certs.d/{host}/ca.crt"
    if "http response to https" in text:
        return f"try: a registry with TLS, or {host} as insecure in /etc/containers/registries.conf"
    if "connection refused" in text or "no such host" in text or "timeout" in text:
        return f"try: look whether {host} is the registry's address and it is up"
    return ""
