"""Building images: once, behind a lock, leaving nothing when it fails, is cancelled or killed."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import BuildError, HostError
from pytest_carthage.providers.podman import PodmanProvider, host, images, sources, store

from .conftest import DEBIAN

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

FOLDER = "pytest-carthage"

# a stand-in: it prints a tar with one file, the name of which is in all that it leaves behind
GOOD = 'echo built >> "$COUNT"; sleep 0.3; mkdir x; echo yes > "x/$MARK"; tar c -C x .'
SLOW = 'mkdir "$MARK"; echo "I: running apt-get update..." >&2; sleep 60; false'


class Bench:
    """A place to build images, with a stand-in for mmdebstrap."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mark = f"mark{secrets.token_hex(4)}"
        self.count = tmp_path / "count"
        self.programs = tmp_path / "bin"
        self.programs.mkdir()
        monkeypatch.setenv("COUNT", str(self.count))
        monkeypatch.setenv("MARK", self.mark)
        # no Debian package is called so: the key is this test's own
        self.image = Image.debian("bookworm", packages=[self.mark], name="stand-in")
        self.notes: list[str] = []
        self.folder = store.find_store().root.parent / FOLDER

    def mmdebstrap(self, script: str) -> None:
        path = self.programs / "mmdebstrap"
        path.write_text(f"#!/bin/sh\nset -e\ncd $TMPDIR\n{script}\n")
        path.chmod(0o755)

    async def ensure(self) -> str:
        return await images.ensure_image(self.image, lambda who, text: self.notes.append(text))

    def traces(self) -> list[str]:
        """What a build left: files, mounts, processes."""
        key = images.reference(self.image).rpartition("-")[2]
        found = [str(path) for path in self.folder.glob(f"{key}*") if path.suffix != ".lock"]
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if key in line:
                found.append(line)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                text = (process / "cmdline").read_text()
            except OSError:
                continue
            if key in text and process.name != str(os.getpid()):
                found.append(text)
        return found

    def built(self) -> int:
        return len(self.count.read_text().splitlines()) if self.count.exists() else 0


@pytest.fixture
def bench(
    podman: PodmanProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    made.mmdebstrap(GOOD)
    monkeypatch.setattr(store, "PATH", f"{made.programs}:{store.PATH}")
    yield made
    subprocess.run(
        ["podman", "rmi", "--force", images.reference(made.image)],
        capture_output=True,
        check=False,
    )
    key = images.reference(made.image).rpartition("-")[2]
    (made.folder / f"{key}.lock").unlink(missing_ok=True)


def test_image_is_built_once_by_however_many_ask(bench: Bench) -> None:
    async def go() -> list[str]:
        return await asyncio.gather(*(bench.ensure() for _ in range(3)))

    names = set(asyncio.run(go()))
    assert names == {images.reference(bench.image)}
    assert store.has_image(names.pop())
    assert bench.built() == 1
    assert "being built by another process" in bench.notes
    assert not bench.traces()
    asyncio.run(bench.ensure())
    assert bench.built() == 1


def test_image_name_is_its_content_key() -> None:
    one = Image.debian("bookworm", packages=["b", "a"], name="one")
    same = Image.debian("bookworm", packages=["a", "b"], name="two")
    other = Image.debian("bookworm", packages=["a"])
    assert images.reference(one) == images.reference(same) != images.reference(other)
    assert images.reference(one).startswith("localhost/carthage/debian:bookworm-")
    assert images.reference(Image.oci("localhost/x:1")) == "localhost/x:1"


def test_failed_build_tells_the_last_lines_and_leaves_nothing(bench: Bench) -> None:
    bench.mmdebstrap(
        "echo 'I: installing' >&2; echo 'E: Unable to locate package nope' >&2; exit 25"
    )
    with pytest.raises(BuildError, match=r"image 'stand-in' \(Debian bookworm with mark") as caught:
        asyncio.run(bench.ensure())
    text = str(caught.value)
    assert "ended with status 25; the last lines:\n  E: Unable to locate package nope" in text
    assert "a package other than 'nope', which bookworm does not have" in text
    assert bench.notes == ["installing"]
    assert not bench.traces()
    assert not store.has_image(images.reference(bench.image))


def test_suite_that_no_mirror_has_is_told(bench: Bench) -> None:
    bench.mmdebstrap("echo \"E: The repository 'x' does not have a Release file.\" >&2; exit 25")
    with pytest.raises(BuildError, match=r"try: another suite; the mirrors have no 'bookworm'"):
        asyncio.run(bench.ensure())


def test_half_a_tar_does_not_become_an_image(bench: Bench) -> None:
    bench.mmdebstrap(f"({GOOD}) | head -c 700; exit 1")
    with pytest.raises(BuildError, match="status 1"):
        asyncio.run(bench.ensure())
    assert not store.has_image(images.reference(bench.image))


def test_full_disk_is_told_with_what_is_free(bench: Bench) -> None:
    bench.mmdebstrap("head -c 1 /dev/zero > /dev/full")
    with pytest.raises(BuildError, match=r"no space left: .*pytest-carthage has \d+ MiB free"):
        asyncio.run(bench.ensure())
    assert not bench.traces()


@pytest.mark.parametrize("free_kib", [0, 1 << 30], ids=["on disk", "in memory"])
def test_build_in_either_place_leaves_nothing(
    free_kib: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_free_memory_kib", lambda: free_kib)
    bench.mmdebstrap(f'stat -f -c "I: creating on %T" . >&2; {GOOD}')
    asyncio.run(bench.ensure())
    assert (bench.notes[0] == "creating on tmpfs") is bool(free_kib)
    assert not bench.traces()


def test_cancelled_build_leaves_nothing_and_the_next_succeeds(bench: Bench) -> None:
    async def go() -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(images.ensure_image(bench.image, lambda who, text: begun.set()))
        await asyncio.wait_for(begun.wait(), 30)
        assert bench.traces(), "this test looks at the wrong place"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    bench.mmdebstrap(SLOW)
    asyncio.run(go())
    assert not bench.traces()
    bench.mmdebstrap(GOOD)
    asyncio.run(bench.ensure())


BUILD = """
import asyncio, sys
from pytest_carthage import Image
from pytest_carthage.providers.podman import images, store
store.PATH = sys.argv[1]
image = Image.debian("bookworm", packages=[sys.argv[2]], name="stand-in")
asyncio.run(images.ensure_image(image, lambda who, text: print(text, flush=True)))
"""


@pytest.mark.parametrize("free_kib", [0, 1 << 30], ids=["on disk", "in memory"])
def test_killed_build_leaves_nothing_and_does_not_block_the_next(
    free_kib: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_free_memory_kib", lambda: free_kib)
    bench.mmdebstrap(SLOW)
    code = f"from pytest_carthage.providers.podman import images\n{BUILD}".replace(
        "store.PATH =", f"images._free_memory_kib = lambda: {free_kib}\nstore.PATH ="
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, store.PATH, bench.mark],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running apt-get update\n"
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    # on disk, its folder waits for the next build of the same image
    while left := [line for line in bench.traces() if free_kib or not line.endswith(".work")]:
        if left == [str(bench.folder / Path(left[0]).name)]:
            break  # an empty mount point
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    bench.mmdebstrap(GOOD)
    asyncio.run(bench.ensure())
    assert bench.built() == 1
    assert not bench.traces()


def test_builder_that_is_missing_is_told_with_its_package(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_which", lambda program: None)
    with pytest.raises(HostError, match=r"no mmdebstrap, .*apt-get install mmdebstrap"):
        asyncio.run(bench.ensure())


def test_missing_image_is_told_with_similar_ones(bench: Bench) -> None:
    wanted = asyncio.run(bench.ensure())
    mistyped = Image.oci(wanted[:-2] + "xx")
    with pytest.raises(BuildError, match=rf"not in this host's store; .*{wanted}.*podman pull"):
        asyncio.run(images.ensure_image(mistyped, lambda who, text: None))


def test_abbreviated_name_of_an_image_is_understood(bench: Bench) -> None:
    wanted = asyncio.run(bench.ensure())
    assert store.has_image(wanted.removeprefix("localhost/"))
    assert not store.has_image("no-such-image")


def test_passwords_of_the_hosts_apt_are_on_no_command_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    option = 'Acquire::http::Proxy "http://user:secret@proxy.example/";'
    monkeypatch.setattr(sources, "apt_options", lambda: option)
    monkeypatch.setattr(sources, "sources_for", lambda suite: "Uris: http://user:secret@x/debian")
    seen = tmp_path / "seen"
    bench.mmdebstrap(
        f'cat > {seen}; cat apt.conf >> {seen}; cat /proc/[0-9]*/cmdline | tr "\\0" " " '
        f"> {seen}.args; env > {seen}.env; {GOOD}"
    )
    asyncio.run(bench.ensure())
    assert seen.read_text().count("user:secret") == 2
    assert "mmdebstrap" in Path(f"{seen}.args").read_text()
    assert "secret" not in Path(f"{seen}.args").read_text()
    assert "secret" not in Path(f"{seen}.env").read_text()


@pytest.fixture
def content(debian: str, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Files of a real image."""
    mounted = subprocess.run(
        ["podman", "image", "mount", debian], check=True, capture_output=True, text=True
    ).stdout.strip()
    yield lambda path: Path(mounted) / path
    subprocess.run(["podman", "image", "umount", debian], check=True, capture_output=True)


def test_real_image_has_what_was_asked_for_and_nothing_of_the_host(
    content: Callable[[str], Path],
) -> None:
    assert "bookworm" in content("etc/os-release").read_text()
    for package in DEBIAN.packages:
        assert list(content("var/lib/dpkg/info").glob(f"{package}*.list"))
    assert not content("etc/resolv.conf").exists()
    assert not content("etc/hostname").exists()
    assert content("etc/apt/sources.list").read_text() == (
        "deb http://deb.debian.org/debian bookworm main\n"
    )
    assert not list(content("etc/apt/sources.list.d").iterdir())
    assert not content("etc/apt/apt.conf.d/99mmdebstrap").exists()
    assert stat.S_IMODE(content("tmp").stat().st_mode) == 0o1777


def test_real_image_is_without_what_no_test_needs(content: Callable[[str], Path]) -> None:
    for folder in ("usr/share/doc", "usr/share/locale", "var/lib/apt/lists"):
        files = [path for path in content(folder).rglob("*") if path.is_file()]
        assert [path.name for path in files if path.name != "lock"] == [], folder
    # update-alternatives(1) links pages into them
    assert content("usr/share/man/man7").is_dir()
