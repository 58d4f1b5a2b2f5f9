"""An image with a name in podman's store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import BuildError
from pytest_carthage.images.exports.notes import Note, quiet
from pytest_carthage.images.exports.oci.blobs import Blob, digits, recorded, written
from pytest_carthage.images.exports.oci.description import (
    LABEL,
    configuration,
    describe,
    digest_of,
)
from pytest_carthage.images.exports.places import room
from pytest_carthage.images.exports.tools import check_tools, completed, require
from pytest_carthage.images.host_store import image_ids

if TYPE_CHECKING:
    from pytest_carthage.store.built import Built

__all__ = ["tag"]


async def tag(built: Built, reference: str, *, note: Note = quiet) -> None:
    """Give the image a name in the host's podman store; only layers that it lacks are written.

    :raises BuildError: the name belongs to an image of somebody else, or it cannot be stored.
    :raises HostError: this host has no skopeo.
    """
    reference = full_name(reference)
    doing = f"{built.who}: tagged {reference}"
    require("skopeo")
    records = [recorded(layer) for layer in built.layers]
    layers = [layer for layer in records if layer is not None]
    if len(layers) == len(records) and await asyncio.to_thread(
        _is_tagged, reference, digest_of(configuration(built, layers))
    ):
        return
    there = await _tagged(reference, doing)
    _refuse_foreign(there, reference, doing)
    present = set((there or {}).get("rootfs", {}).get("diff_ids") or ())
    if sum(layer is None or layer.digest not in present for layer in records) > 1:
        present |= await _layers_of_others()
    before = (await asyncio.to_thread(image_ids)).get(reference)
    note(f"tagging {reference}")
    async with room(built.store, doing) as folder:
        try:
            await _copy_to_podman(built, reference, folder, present, doing)
        except BuildError:
            if not present:
                raise
            # what podman says of its layers and what it does need not agree
            await _copy_to_podman(built, reference, folder, set(), doing)
    if before is not None:
        await _remove_nameless(before)


def full_name(reference: str) -> str:
    """A name as podman stores it: with a host (``localhost``) and a tag (``latest``)."""
    first, slash, _ = reference.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        reference = f"localhost/{reference}"
    if ":" not in reference.rpartition("/")[2]:
        reference += ":latest"
    return reference


def _is_tagged(reference: str, config: str) -> bool:
    """Whether the store says that this name is an image with this configuration.

    False: somebody has to be asked.
    """
    return image_ids().get(reference) == digits(config)


async def _tagged(reference: str, doing: str) -> dict[str, Any] | None:
    """Configuration of the image that has a name now; None: there is none."""
    inspect = ("skopeo", "inspect", "--config", f"containers-storage:{reference}")
    try:
        config: dict[str, Any] = json.loads(await completed(inspect, doing=doing))
    except BuildError as error:
        if "does not resolve to an image ID" in str(error):
            return None
        raise
    return config


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


async def _layers_of_others() -> set[str]:
    """Digests of layers that podman has for other images of ours; not all need be there."""
    if os.geteuid() != 0 or check_tools(["podman"]):
        return set()  # without root podman leaves a process
    try:
        listing = ["podman", "images", "--quiet", "--no-trunc", "--filter", f"label={LABEL}"]
        ids = sorted(set((await completed(listing, doing="podman's images")).split()))
        if not ids:
            return set()
        rows = await completed(["podman", "image", "inspect", *ids], doing="podman's images")
        return {digest for row in json.loads(rows) for digest in row["RootFS"]["Layers"] or ()}
    except (BuildError, ValueError, KeyError):  # one was removed meanwhile
        return set()


async def _copy_to_podman(
    built: Built, reference: str, folder: Path, present: set[str], doing: str
) -> None:
    layers = []
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    for layer in built.layers:
        plain = recorded(layer)
        if plain is None or plain.digest not in present:
            plain = await written(layer, blobs, doing)
        layers.append(plain)
    config = configuration(built, layers)
    describe(built, config, list(map(Blob.of, layers)), compress=False).write(folder)
    # podman heeds a healthcheck in Docker's format only
    form = [] if built.config.healthcheck is None else ["--format", "v2s2"]
    await completed(
        [
            *("skopeo", "copy", "--quiet", "--insecure-policy", *form),
            f"oci:{folder}",
            f"containers-storage:{reference}",
        ],
        doing=doing,
        places=[folder, Path("/var/tmp"), Path("/var/lib/containers")],
    )


async def _remove_nameless(identity: str) -> None:
    """Remove an image of ours that has lost its last name, unless a container stands on it."""
    if identity not in (await asyncio.to_thread(image_ids)).values():
        with contextlib.suppress(BuildError):
            name = f"containers-storage:@{identity}"
            await completed(["skopeo", "delete", name], doing="an image without a name")
