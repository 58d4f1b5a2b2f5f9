"""What an OCI image says of itself: its configuration, its manifest, the index of its layout."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.images.exports.epoch import epoch
from pytest_carthage.images.exports.oci.blobs import Blob, PlainTar, digits
from pytest_carthage.images.exports.oci.history import history

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["LABEL", "Description", "configuration", "describe", "digest_of", "is_left_out"]

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
class Description:
    """The small files of a layout."""

    #: by their names in the layout
    files: Mapping[str, bytes]
    #: digest of the manifest
    digest: str

    def write(self, folder: Path) -> None:
        """Write them into the folder of a layout."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def digest_of(data: bytes) -> str:
    """The digest by which a blob is called."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_left_out(number: int, layer: PlainTar) -> bool:
    """Whether a layer exists in the history only; no image is without any."""
    return layer.is_empty and number > 0


def configuration(built: Built, layers: Sequence[PlainTar]) -> bytes:
    """The image's configuration, which says what its layers are."""
    rows = []
    for number, (entry, layer) in enumerate(zip(history(built), layers, strict=True)):
        row: dict[str, Any] = {"created": _stamp(entry.made_at), "created_by": entry.command}
        if entry.title != entry.command:
            row["comment"] = entry.title
        if is_left_out(number, layer):
            row["empty_layer"] = True
        rows.append(row)
    machine = os.uname().machine
    return _json(
        {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "config": _runtime(built),
            "created": _stamp(max(layer.meta.made_at for layer in built.layers)),
            "history": rows,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": _diff_ids(layers)},
        }
    )


def _runtime(built: Built) -> dict[str, Any]:
    """What whoever runs the image is told."""
    declared = built.config
    config: dict[str, Any] = {"Labels": {**dict(declared.labels), LABEL: built.image.key}}
    if declared.command is not None:
        config["Cmd"] = list(declared.command)
    if declared.env:
        config["Env"] = [f"{name}={value}" for name, value in declared.env]
    if declared.user:
        config["User"] = declared.user
    if declared.workdir:
        config["WorkingDir"] = declared.workdir
    if (check := declared.healthcheck) is not None:
        # not in the OCI specification; Docker's image specification v1.2 has it, in nanoseconds
        config["Healthcheck"] = {
            "Test": ["CMD", *check.command],
            "Interval": int(check.interval_s * 1e9),
            "Timeout": int(check.timeout_s * 1e9),
            "Retries": check.retries,
        }
        if check.start_period_s:
            config["Healthcheck"]["StartPeriod"] = int(check.start_period_s * 1e9)
    if declared.stop_signal:
        config["StopSignal"] = declared.stop_signal
    if declared.volumes:
        config["Volumes"] = {path: {} for path in declared.volumes}
    return config


def _diff_ids(layers: Sequence[PlainTar]) -> list[str]:
    return [layer.digest for number, layer in enumerate(layers) if not is_left_out(number, layer)]


def describe(built: Built, config: bytes, blobs: Sequence[Blob], *, compress: bool) -> Description:
    """Describe an image with this configuration and these layers."""
    layers = [
        {
            "mediaType": f"{_LAYER}+gzip" if compress else _LAYER,
            "digest": blob.digest,
            "size": blob.size,
        }
        for number, blob in enumerate(blobs)
        if not is_left_out(number, blob.plain)
    ]
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": layers,
        }
    )
    row: dict[str, Any] = {
        "mediaType": _MANIFEST,
        "digest": digest_of(manifest),
        "size": len(manifest),
    }
    name = built.image.tag or built.image.name
    if _NAME.fullmatch(name):
        row["annotations"] = {_REF_NAME: name}
    index = {"schemaVersion": 2, "manifests": [row]}
    return Description(
        files={
            "oci-layout": _LAYOUT,
            "index.json": _json(index),
            f"blobs/sha256/{digits(digest_of(config))}": config,
            f"blobs/sha256/{digits(digest_of(manifest))}": manifest,
        },
        digest=digest_of(manifest),
    )


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _stamp(seconds: float) -> str:
    """A time as RFC 3339 has it, no newer than SOURCE_DATE_EPOCH."""
    newest = epoch()
    if newest is not None:
        seconds = min(seconds, newest)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds)))
