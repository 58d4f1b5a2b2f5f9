"""Images that exist already: in this host's own store, in archives, in registries."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.execution import environment, run
from pytest_carthage.fabric.host.namespaces import apart
from pytest_carthage.images.bases.hashes import content_hash
from pytest_carthage.images.bases.values import BaseResult
from pytest_carthage.images.host_store import image_ids
from pytest_carthage.work import space

if TYPE_CHECKING:
    from pytest_carthage.images.bases.values import BaseTools
    from pytest_carthage.model.image import Image

__all__ = ["inputs", "make", "take"]

#: transports of skopeo(1), see containers-transports(5); those that are files of this host
_LOCAL = ("oci-archive", "docker-archive", "oci", "dir")
_REMOTE = ("docker", "atomic", "docker-daemon", "tarball")
_LONGEST_S = 60.0
_ROOT = Path(__file__).resolve().parents[3]
_UNPACK = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r});"
    "from pytest_carthage.images.bases.unpack import main; main()"
)


async def inputs(image: Image) -> dict[str, str]:
    """The reference, and the id of the image that has it now.

    What is in a registry is not asked for: it is taken once.

    :raises BuildError: there is no such image.
    """
    transport, rest = _split(image.reference)
    if transport == "":
        return {image.reference: await asyncio.to_thread(_image_id, image)}
    if transport in _LOCAL:
        return {image.reference: await asyncio.to_thread(_local_hash, rest, _who(image))}
    return {}


async def make(image: Image, tree: Path, tools: BaseTools) -> BaseResult:
    """Copy an image out of where it is, and unpack it.

    :raises BuildError: it is not there, offline it would have to be fetched.
    """
    transport, rest = _split(image.reference)
    source = image.reference
    if transport == "":
        source = f"containers-storage:{await asyncio.to_thread(_image_id, image)}"
    elif transport not in _LOCAL and tools.offline:
        raise BuildError(
            f"{_who(image)}: offline, and {rest.lstrip('/')} is fetched from elsewhere; "
            f"try: once with a network, pytest-carthage unbundle, or skopeo copy {source} "
            "oci-archive:FILE and Image.oci('oci-archive:FILE')"
        )
    tools.note(f"copying {image.reference}")
    before = _alone(network=transport in _REMOTE, unpacks=transport == "oci-archive")
    return await take(source, _who(image), tree, tools, before=before)


async def take(
    source: str, who: str, tree: Path, tools: BaseTools, *, before: Sequence[str]
) -> BaseResult:
    """Unpack what skopeo(1) can reach, into an empty folder.

    :param who: begins messages.
    :param before: begins skopeo's command.
    """
    # beside it, on the same disk; gone with the caller's folder if this is killed
    work = tree.with_name(f"{tree.name}.image")
    shutil.rmtree(work, ignore_errors=True)
    blobs, temporary, room = work / "blobs", work / "tmp", work / "room"
    try:
        temporary.mkdir(parents=True)
        room.mkdir()
        ended = await run(
            [*before, "skopeo", "copy", "--quiet", "--dest-decompress", source, f"dir:{blobs}"],
            env={"TMPDIR": str(temporary)},
        )
        if ended.status:
            raise BuildError(_failure(who, "skopeo", ended.status, ended.text, tree))
        config, layers, digest = await asyncio.to_thread(_read, blobs)
        tools.note(f"unpacking {len(layers)} layers")
        with contextlib.ExitStack() as stack:
            fds = [stack.enter_context(path.open("rb")).fileno() for path in layers]
            ended = await run(
                [
                    *apart(privileged=tools.privileged, network=False),
                    *(sys.executable, "-I", "-S", "-c", _UNPACK, str(tree), str(room)),
                    *map(str, fds),
                ],
                keep_fds=fds,
            )
        if ended.status:
            raise BuildError(_failure(who, "unpacking", ended.status, ended.text, tree))
        return BaseResult(config=config, digest=digest)
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)


def _alone(*, network: bool, unpacks: bool) -> list[str]:
    """Namespaces for skopeo; rootless, it makes most of those that it needs by itself.

    :param unpacks: it gives what is in an archive to the owners that this names.
    """
    # its store would be mounted on the host, and stay so
    if os.geteuid() == 0:
        return apart(privileged=True, network=network)
    return apart(privileged=False, network=network) if unpacks else []


def _failure(who: str, program: str, status: int, text: str, tree: Path) -> str:
    said = f"{who}: {program} ended with status {status}; the last lines:\n{text}\n"
    if full := space.advice(text, tree.parent):
        return said + full
    if re.search(r"no such host|dial tcp|connection refused|i/o timeout|unauthorized", text):
        return f"{said}try: skopeo inspect with that reference, skopeo login where it needs one"
    return f"{said}try: skopeo inspect with that reference, which tells what is there"


def _read(blobs: Path) -> tuple[Mapping[str, Any], list[Path], str]:
    manifest = json.loads((blobs / "manifest.json").read_text())
    digest = manifest["config"]["digest"]
    record = json.loads((blobs / digest.partition(":")[2]).read_text())
    layers = [blobs / layer["digest"].partition(":")[2] for layer in manifest["layers"]]
    return _config(record.get("config") or {}), layers, digest


def _config(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of an image's configuration that machines are told."""
    command = [*(record.get("Entrypoint") or ()), *(record.get("Cmd") or ())]
    return {
        "command": command or None,
        "env": dict(pair.partition("=")[::2] for pair in record.get("Env") or ()),
        "labels": dict(record.get("Labels") or {}),
        "user": record.get("User") or "",
        "workdir": record.get("WorkingDir") or "",
        "healthcheck": _healthcheck(record.get("Healthcheck") or {}),
        "stop_signal": record.get("StopSignal") or "",
        "volumes": sorted(record.get("Volumes") or ()),
    }


def _healthcheck(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A healthcheck of Docker's image specification, in nanoseconds; what is 0 is not said."""
    kind, *words = record.get("Test") or ["NONE"]
    if kind == "CMD-SHELL":
        words = ["/bin/sh", "-c", *words]
    elif kind != "CMD":
        return None
    durations = {
        name: record[key] / 1e9
        for name, key in (
            ("interval_s", "Interval"),
            ("timeout_s", "Timeout"),
            ("start_period_s", "StartPeriod"),
        )
        if record.get(key)
    }
    retries = {"retries": record["Retries"]} if record.get("Retries") else {}
    return {"command": words, **durations, **retries}


def _split(reference: str) -> tuple[str, str]:
    """Transport and what follows; no transport: a name in this host's store."""
    transport, _, rest = reference.partition(":")
    if transport == "containers-storage":
        return "", rest
    if transport in _LOCAL or (transport in _REMOTE and rest.startswith("/")):
        return transport, rest
    return "", reference


def _local_hash(rest: str, who: str) -> str:
    """Hash of ``PATH``, or of that of ``PATH:TAG``."""
    path = Path(rest)
    if not path.exists() and ":" in rest:
        path = Path(rest.partition(":")[0])
    return content_hash(path, who)


def _who(image: Image) -> str:
    return f"image {image.name!r} ({image.reference})"


# the host's own store


def _image_id(image: Image) -> str:
    """Id of the image that has a name in the host's store.

    :raises BuildError: there is none.
    """
    _, wanted = _split(image.reference)
    ids = image_ids()
    if wanted in ids:
        return ids[wanted]
    # slower by some 50 ms, and the judge of abbreviations
    ended = _podman("image", "inspect", "--format", "{{.Id}}", "--", wanted)
    if ended is None:
        raise BuildError(
            f"{_who(image)}: not in this host's store, and there is no podman to ask for it; "
            "try: apt-get install podman, or a reference with a transport, as docker://"
        )
    if ended.returncode:
        raise BuildError(_not_found(image, wanted, ended.stderr))
    return ended.stdout.strip()


def _not_found(image: Image, wanted: str, said: str) -> str:
    ended = _podman("images", "--format", "{{.Repository}}:{{.Tag}}")
    names = sorted({line for line in ended.stdout.split() if "<none>" not in line}) if ended else []
    similar = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5) or names[:5]
    there = f"similar ones that are: {', '.join(similar)}" if similar else "there are none at all"
    last = said.strip().splitlines()[-1:] or [""]
    reason = "" if re.search(r"not known|no such|unable to find", last[0]) else f" ({last[0]})"
    return (
        f"image {wanted!r}: not in this host's store{reason}; {there}; "
        f"try: podman pull {wanted}, or podman build -t {wanted} FOLDER"
    )


def _podman(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            ["podman", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
            env=environment(),
        )
    except (OSError, subprocess.SubprocessError):
        return None
