"""What the results of an image share: programs, room to work in, and files that appear whole."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import BuildError, HostError, Problem
from pytest_carthage.fabric.programs import PATH, missing

if TYPE_CHECKING:
    from pytest_carthage.images.store import Built, Store

    Note = Callable[[str], None]

__all__ = [
    "Packed",
    "absolute",
    "check_tools",
    "epoch",
    "failed",
    "failure",
    "inside_user_namespace",
    "new_file",
    "pack",
    "quiet",
    "require",
    "room",
    "run",
    "who",
]

_PACK = Path(__file__).with_name("pack.py")
_LAST_LINES = 12
#: program -> Debian package, and what ends the sentence "no skopeo, which ..."
_TOOLS = {
    "skopeo": ("skopeo", "brings images to podman and to registries"),
    "mke2fs": ("e2fsprogs", "makes the file systems of disks"),
    "qemu-img": ("qemu-utils", "makes qcow2 disks"),
    "depmod": ("kmod", "orders the modules of a disk's kernel"),
    "dpkg-deb": ("dpkg", "unpacks a disk's kernel"),
    "apt-get": ("apt", "fetches a disk's kernel"),
    "podman": ("podman", "keeps tagged images"),
    "gzip": ("gzip", "compresses .gz"),
    "zstd": ("zstd", "compresses .zst"),
    "xz": ("xz-utils", "compresses .xz"),
}
_FOR_DOCTOR = ("skopeo", "mke2fs", "qemu-img", "depmod")


def check_tools(programs: Sequence[str] = _FOR_DOCTOR) -> list[Problem]:
    """List what this host lacks to make archives and disks of images."""
    return [
        problem
        for name in programs
        for problem in missing("images", {name: _TOOLS[name][0]}, _TOOLS[name][1])
    ]


def require(*programs: str) -> None:
    """Make sure that programs are there.

    :raises HostError: some are not.
    """
    problems = check_tools(programs)
    if problems:
        raise HostError(problems)


def quiet(text: str) -> None:
    """Tell nobody."""


def who(built: Built) -> str:
    """How messages begin."""
    return f"image {built.image.name!r}"


def epoch() -> int | None:
    """``SOURCE_DATE_EPOCH``: nothing is newer than this (seconds); None: it is not set.

    :raises BuildError: it is no number. See https://reproducible-builds.org/specs
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BuildError(
            f"SOURCE_DATE_EPOCH is {text!r}, which is no number of seconds; "
            "try: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)"
        )
    return int(text)


# programs


async def run(
    argv: Sequence[str],
    *,
    doing: str,
    program: str = "",
    places: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    advice: Callable[[str], str] | None = None,
) -> str:
    """Run a program that ends with this process; returns what it printed.

    :param doing: begins the message, as in ``"image 'x': saved as y"``.
    :param program: what it is called in the message, by default by its own name.
    :param places: folders of which to tell the free space when a disk was full.
    :param advice: what to do about output; by default nothing is told.
    :raises BuildError: it failed, with its last lines.
    """
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", *argv),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8", **(env or {})},
    )
    try:
        out, said = await process.communicate()
    finally:
        await _end(process)
    if process.returncode == 0:
        return out.decode(errors="replace")
    text = said.decode(errors="replace").strip()
    status = process.returncode or 0
    advised = "" if advice is None else advice(text)
    raise failed(doing, program or argv[0], status, text, places, advised)


def failed(
    doing: str, program: str, status: int, said: str, places: Sequence[Path], advice: str = ""
) -> BuildError:
    """What to tell of a program that failed, with its last lines."""
    lines = "\n".join(f"  {line}" for line in said.splitlines()[-_LAST_LINES:])
    if os.strerror(errno.ENOSPC).lower() in said.lower():
        advice = _space(places)
    text = f"{doing}: {program} ended with status {status}:\n{lines}"
    return BuildError(f"{text}\n{advice}" if advice else text)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            # its children, too: it leads a session of its own
            os.killpg(process.pid, 9)
        await asyncio.shield(process.wait())


def _space(places: Sequence[Path]) -> str:
    told = []
    for place in dict.fromkeys(places):
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        told.append(f"{place} has {shutil.disk_usage(there).free >> 20} MiB free")
    told = told or ["a disk is full"]
    return (
        f"{', '.join(told)}; try: free some (in the store of images, pytest-carthage images gc "
        "does), or another disk (CARTHAGE_IMAGES is where that store is)"
    )


def failure(doing: str, error: OSError, *places: Path) -> BuildError:
    """What to tell when the kernel refuses something."""
    said = error.strerror or str(error)
    at = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildError(f"{doing}: {said}{at}\n{_space(places)}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BuildError(f"{doing}: {said}{at}; try: a folder that you may write to")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return BuildError(f"{doing}: {said}{at}; try: make the folder first")
    return BuildError(f"{doing}: {said}{at}")


# tars


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What a tar was found to be."""

    #: of the plain tar; empty: not asked for
    digest: str
    size: int
    #: entries, the root not counted
    entries: int
    #: of the compressed one; empty: not compressed
    packed_digest: str
    packed_size: int


async def pack(
    trees: Sequence[Path],
    out: int,
    *,
    doing: str,
    places: Sequence[Path],
    is_layer: bool,
    hashed: bool = True,
    compress: bool = False,
) -> Packed:
    """Write folders (the top first) as one tar.

    :param out: descriptor that is written to; negative: it is only hashed.
    :param is_layer: as a layer of an image, which tells of what is deleted below; else merged.
    :raises BuildError: something in them cannot be in a tar, or a disk is full.
    """
    request = {
        "trees": _real(trees),
        "epoch": epoch(),
        "layer": is_layer,
        "hash": hashed,
        "gzip": compress,
        "out": out,
    }
    argv = [sys.executable, "-I", "-S", str(_PACK)]
    process = await asyncio.create_subprocess_exec(
        *inside_user_namespace(argv),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        pass_fds=(out,) if out >= 0 else (),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        # standard input stays open: its end is the end of the program
        process.stdin.write(json.dumps(request).encode() + b"\n")
        line = await process.stdout.readline()
        if not line:
            said = (await process.stderr.read()).decode(errors="replace").strip()
            raise BuildError(f"{doing}: its files could not be read: {said}{_no_ids(said)}")
    finally:
        process.stdin.close()
        await _end(process)
    answer: dict[str, Any] = json.loads(line)
    if "errno" in answer:
        if answer["errno"] == errno.ENOSPC:
            raise failure(doing, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), *places)
        raise BuildError(f"{doing}: {answer['error']}")
    if "error" in answer:
        raise BuildError(f"{doing}: {answer['error']}; try: change the task that makes it")
    return Packed(
        digest=answer["digest"] or "",
        size=answer["size"],
        entries=answer["entries"],
        packed_digest=answer["packed_digest"] or "",
        packed_size=answer["packed_size"],
    )


def _real(trees: Sequence[Path]) -> list[str]:
    """Paths of folders; a layer that is lent to another store is a link there."""
    return [os.path.realpath(tree) for tree in trees]


def inside_user_namespace(argv: Sequence[str], *more: str) -> list[str]:
    """A command that sees the files of layers with the owners that they have in the image.

    :param more: options of unshare(1) for whoever it is.
    """
    if os.geteuid() == 0:
        return ["unshare", *more, "--", *argv] if more else list(argv)
    return ["unshare", "--user", "--map-root-user", "--map-auto", *more, "--", *argv]


def _no_ids(said: str) -> str:
    if "uidmap" in said or "subuid" in said or "unshare" in said:
        return "; try: apt-get install uidmap, and lines for you in /etc/subuid and /etc/subgid"
    return ""


# files and folders


def absolute(path: Path) -> Path:
    """A path that does not depend on the current folder."""
    return path.expanduser().absolute()


@contextlib.contextmanager
def new_file(path: Path, doing: str) -> Iterator[Path]:
    """A file beside another that takes its place at the end, and is gone if that fails.

    What a killed process has left is taken over.

    :raises BuildError: it cannot be written, or another process does.
    """
    path = path.absolute()
    new = path.with_name(f".{path.name}.new")
    try:
        if path.is_dir():
            raise BuildError(f"{doing}: {path} is a folder; try: a file in it")
        fd = _open_locked(new)
    except BlockingIOError:
        raise BuildError(f"{doing}: another process writes {path} now") from None
    except OSError as error:
        raise failure(doing, error, path.parent) from error
    try:
        try:
            os.ftruncate(fd, 0)
            yield new
            new.replace(path)
        except BaseException as error:
            new.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise failure(doing, error, path.parent) from error
            raise
    finally:
        os.close(fd)


def _open_locked(path: Path) -> int:
    """Open a file that this process alone has.

    :raises BlockingIOError: another process has it.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was renamed meanwhile


@contextlib.asynccontextmanager
async def room(store: Store, doing: str) -> AsyncIterator[Path]:
    """A folder of the store to work in; it goes, also those of processes that were killed.

    :raises BuildError: it cannot be made.
    """
    parent = store.folder("work")
    try:
        path, fd = _locked_folder(parent)
    except OSError as error:
        raise failure(doing, error, parent) from error
    try:
        await asyncio.to_thread(_sweep, store, parent)
        yield path
    except OSError as error:
        raise failure(doing, error, parent) from error
    finally:
        await asyncio.shield(asyncio.to_thread(store.delete, path))
        os.close(fd)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix="result-", dir=parent))
        with contextlib.suppress(FileNotFoundError):  # swept before it was locked
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if path.exists():
                return path, fd
            os.close(fd)


def _sweep(store: Store, parent: Path) -> None:
    for path in parent.glob("result-*"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                store.delete(path)
            finally:
                os.close(fd)
