"""Images: from a declaration to a reference in the host's image store, once per content key.

A Debian image is made by mmdebstrap(1) and ``podman import``, both in a mount and PID namespace
that ends with this process: whatever kills it, no mount, process or half image is left. What
is written on the way has no name, or is on a tmpfs of that namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage.errors import BuildError, HostError
from pytest_carthage.providers.podman import host, sources, store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pytest_carthage.model.image import Image

    Note = Callable[[str, str], None]

__all__ = ["ensure_image", "reference"]

#: raised when the same declaration is to be built in another way
_RECIPE = 1
#: memory that must be free for the root file system to be made there rather than on disk
_ROOMY_KIB = 3 * 1024 * 1024
_POLL_S = 0.05
_LAST_LINES = 15
#: what mmdebstrap says at the beginning of each longer step
_STEPS = ("running apt-get", "downloading", "extracting", "installing", "creating", "importing")

_UNNEEDED = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)

# $1: size of a tmpfs to work on, or empty; $2: folder to work in; $3: reference;
# the rest: arguments of mmdebstrap. Standard input: sources; 3: an unnamed file for the tar.
_SCRIPT = """
set -eu
umask 022
if [ -n "$1" ]; then mount -t tmpfs -o "mode=0755,size=$1" tmpfs "$2"; fi
cd "$2"
work=$2 reference=$3
shift 3
printf '%s\\n' "$CARTHAGE_APT_OPTIONS" > apt.conf
unset CARTHAGE_APT_OPTIONS
TMPDIR="$work" mmdebstrap "$@" >&3
echo 'I: importing...' >&2
TMPDIR="$work" podman import --quiet --change ENV=LANG=C.UTF-8 /proc/self/fd/3 "$reference" >&2
"""

# update-alternatives links manual pages of postgresql-client and others into these folders,
# which do not exist where no package may put anything there
_BEFORE_PACKAGES = 'for n in 1 2 3 4 5 6 7 8; do mkdir -p "$1/usr/share/man/man$n"; done'

# the host's names, resolver, mirrors, proxies and passwords are none of the machine's business
_AFTER_PACKAGES = (
    'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/apt/sources.list.d/* '
    '"$1"/etc/resolv.conf "$1"/etc/hostname; '
    'echo "deb http://deb.debian.org/debian {suite} main" > "$1/etc/apt/sources.list"'
)


def reference(image: Image) -> str:
    """The name under which an image is found in the host's store; nothing is looked up."""
    if image.kind == "oci":
        return image.reference
    key = hashlib.sha256(f"{_RECIPE} {image.key}".encode()).hexdigest()[:16]
    return f"localhost/carthage/debian:{image.suite}-{key}"


async def ensure_image(image: Image, note: Note) -> str:
    """Build an image where it is missing; one process at a time does, the others wait for it.

    :raises BuildError: it cannot be built or found, with the tool's last lines.
    :raises HostError: this host lacks what builds images.
    """
    wanted = reference(image)
    if await _exists(wanted):
        return wanted
    if image.kind == "oci":
        raise BuildError(await asyncio.to_thread(_not_found, wanted))
    problems = host.check_builder()
    if problems:
        raise HostError(problems)
    key = wanted.rpartition("-")[2]
    # beside the store that it guards: whoever uses that store meets the same lock
    folder = store.find_store().root.parent / "pytest-carthage"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with _locked(folder / f"{key}.lock", image, note):
            if not await _exists(wanted):
                await _build(image, wanted, folder / f"{key}.work", note)
    except OSError as error:
        raise BuildError(f"{_who(image)}: {error}") from error
    return wanted


async def _exists(wanted: str) -> bool:
    try:
        return await asyncio.to_thread(store.has_image, wanted)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"image {wanted!r}: {error}") from error


def _who(image: Image) -> str:
    packages = f" with {', '.join(image.packages)}" if image.packages else ""
    return f"image {image.name!r} (Debian {image.suite}{packages})"


def _not_found(wanted: str) -> str:
    names = store.image_names()
    similar = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5) or names[:5]
    there = f"similar ones that are: {', '.join(similar)}" if similar else "there are none at all"
    return (
        f"image {wanted!r}: not in this host's store; {there}; "
        f"try: podman pull {wanted}, or podman build -t {wanted} FOLDER"
    )


@contextlib.asynccontextmanager
async def _locked(path: Path, image: Image, note: Note) -> AsyncIterator[None]:
    """Hold a lock that ends with this process; waits while another one holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    told = False
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    note(image.name, "being built by another process")
                told = True
                # a thread that waits in flock(2) could not be cancelled
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)


def _arguments(image: Image, work: Path, *, own_sources: bool) -> list[str]:
    hook = _AFTER_PACKAGES.format(suite=image.suite)
    return [
        "--mode=root",
        "--variant=minbase",
        f"--aptopt={work}/apt.conf",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _UNNEEDED),
        *([f"--include={','.join(image.packages)}"] if image.packages else []),
        f"--essential-hook={_BEFORE_PACKAGES}",
        f"--customize-hook={hook}",
        image.suite,
        "-",
        *(["-"] if own_sources else []),
    ]


def _free_memory_kib() -> int:
    match = re.search(r"^MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def _make_empty(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)  # a build on disk was killed
    work.mkdir(mode=0o755)


async def _build(image: Image, wanted: str, work: Path, note: Note) -> None:
    own = sources.sources_for(image.suite)
    free_kib = _free_memory_kib()
    size = f"{free_kib // 2}k" if free_kib >= _ROOMY_KIB else ""
    _make_empty(work)
    try:
        with tempfile.TemporaryFile(dir=work.parent) as tar:
            status, lines = await _run(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                    *("sh", "-c", 'exec 3<>"/proc/self/fd/$0"; ' + _SCRIPT, str(tar.fileno())),
                    *(size, str(work), wanted),
                    *_arguments(image, work, own_sources=bool(own)),
                ],
                own,
                tar.fileno(),
                lambda text: note(image.name, text),
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if status:
        raise BuildError(_failure(image, status, lines, work.parent))


async def _run(
    argv: list[str], input: str, keep: int, tell: Callable[[str], None]
) -> tuple[int, list[str]]:
    """Run a program that ends with this thread; returns its status and the last lines."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(keep,),
        start_new_session=True,
        env={
            **os.environ,
            "PATH": store.PATH,
            "LC_ALL": "C.UTF-8",
            "CARTHAGE_APT_OPTIONS": sources.apt_options(),
        },
    )
    assert process.stdin is not None
    assert process.stderr is not None
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        process.stdin.write(input.encode())
        process.stdin.close()
        while line := await process.stderr.readline():
            text = line.decode(errors="replace").rstrip()
            if not text.startswith("I: "):
                last.append(text)
            elif text[3:].startswith(_STEPS):
                tell(text[3:].rstrip("."))
        return await process.wait(), list(last)
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(_end_of(process))


async def _end_of(process: asyncio.subprocess.Process) -> None:
    """Wait until a program that was killed is gone with all that it started."""
    await process.wait()
    if process.stderr is not None:
        while await process.stderr.read(1 << 16):  # its end comes with the last who can write
            pass


def _failure(image: Image, status: int, lines: list[str], folder: Path) -> str:
    text = "\n".join(f"  {line}" for line in lines)
    said = f"{_who(image)}: the build ended with status {status}; the last lines:\n{text}\n"
    if "No space left on device" in text or "not enough free space" in text:
        places = ", ".join(f"{path} has {_free_mib(path)} MiB free" for path in _places(folder))
        return f"{said}no space left: {places}; try: podman image prune"
    if match := re.search(r"E: (?:Unable to locate package|Package) '?([^\s']+)", text):
        return f"{said}try: a package other than {match[1]!r}, which {image.suite} does not have"
    if "does not have a Release file" in text:
        return f"{said}try: another suite; the mirrors have no {image.suite!r} (or are old)"
    if re.search(r"Could not resolve|Temporary failure|Unable to connect|Failed to fetch", text):
        return f"{said}try: apt-get update on this host, whose mirrors are used"
    return f"{said}try: the packages, one by one, with mmdebstrap"


def _places(folder: Path) -> list[Path]:
    return [path for path in dict.fromkeys((folder, Path("/var/tmp"))) if path.exists()]


def _free_mib(path: Path) -> int:
    return shutil.disk_usage(path).free // (1024 * 1024)
