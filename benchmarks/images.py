"""Images to measure: a store of one's own, an image of ten layers, and podman's way to the same."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sealed import Podman, podman
from pytest_carthage import File, Image, Role, filesystem_task
from pytest_carthage.images import recipe
from pytest_carthage.images.builder import ensure
from pytest_carthage.portal import Portal
from pytest_carthage.store.built import Built
from pytest_carthage.store.layer import LayerMeta
from pytest_carthage.store.root import Store
from pytest_carthage.work.debian import sources
from pytest_carthage.work.files.filesystem import AsyncFilesystem

__all__ = [
    "BASE",
    "LAYERS",
    "Bench",
    "PodmanBuild",
    "bench",
    "podman_build",
    "recognise",
    "ten_files",
    "ten_layers",
    "ten_lines",
]

#: what the images here stand on; the Containerfiles begin with it, too
BASE = Image.debian("bookworm").with_(tag="localhost/carthage-benchmark-base:1")
#: layers of an image beside its base
LAYERS = 10

_TAG = "localhost/carthage-benchmark-build:1"


class Bench:
    """A store of its own, in which there is a bare Debian; and what builds in it."""

    def __init__(self, folder: Path, portal: Portal) -> None:
        self.portal = portal
        self._store = Store(folder / "images")
        self._store.prepare()
        # the tag has it in podman's store, too
        base = self._ensure(BASE, Store()).layers[0]
        self._base = recipe.base_key(BASE.base, base.meta.inputs)
        work = self._store.folder("work") / "base"
        work.mkdir()
        # not copied: an overlay takes it from wherever it is
        (work / "tree").symlink_to(base.tree)
        told = {name: getattr(base.meta, name) for name in LayerMeta.__dataclass_fields__}
        self._store.layers.commit(work, LayerMeta(**{**told, "key": self._base}))

    @property
    def root(self) -> Path:
        """Folder of the store."""
        return self._store.root

    def clear(self) -> None:
        """Throw all layers away but for the base; packages that were downloaded stay."""
        self._store.release()
        for name in ("layers", "names", "results"):
            for path in self._store.folder(name).iterdir():
                if path.name != self._base:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def build(self, image: Image) -> Built:
        """Find or build an image."""
        return self._ensure(image, Store(self._store.root))

    def _ensure(self, image: Image, store: Store) -> Built:
        built: Built = self.portal.call(
            lambda: ensure(image, portal=self.portal, note=lambda who, text: None, store=store)
        )
        return built


def recognise(root: Path, context: Path) -> float:
    """Seconds to find the image of ten layers in a store."""
    portal = Portal()
    try:
        image = ten_layers(context, "last")
        begin = time.perf_counter()
        portal.call(
            lambda: ensure(image, portal=portal, note=lambda who, text: None, store=Store(root))
        )
        return time.perf_counter() - begin
    finally:
        portal.close()


@contextmanager
def bench() -> Iterator[Bench]:
    """A store of its own while the block runs."""
    portal = Portal()
    folder = Path(tempfile.mkdtemp(prefix="carthage-benchmark-", dir="/var/tmp"))
    try:
        yield Bench(folder, portal)
    finally:
        portal.close()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered(Role):
    """One layer: a file with a text, put there by a command."""

    number: int
    text: str

    @filesystem_task("write a file")
    async def write(self, fs: AsyncFilesystem) -> None:
        """Write it."""
        await fs.run(f"echo {self.text} > /n{self.number}")


@contextmanager
def ten_files() -> Iterator[Path]:
    """A folder with the files that are copied into images of ten layers."""
    with tempfile.TemporaryDirectory(prefix="carthage-benchmark-", dir="/var/tmp") as name:
        for number in range(0, LAYERS, 2):
            (Path(name) / f"file{number}").write_text(f"{number}\n" * 1000)
        yield Path(name)


def ten_layers(folder: Path, last: str) -> Image:
    """Five files of the host and five commands; ``last`` is what the last one says."""
    contents: list[File | Numbered] = []
    for number in range(0, LAYERS, 2):
        text = last if number == LAYERS - 2 else "unchanged"
        contents.append(File(folder / f"file{number}", f"/srv/file{number}"))
        contents.append(Numbered(number=number + 1, text=text))
    return Image.debian("bookworm").with_(*contents, name="ten layers")


def ten_lines(last: str) -> str:
    """The Containerfile of the same image."""
    lines = [f"FROM {BASE.tag}"]
    for number in range(0, LAYERS, 2):
        text = last if number == LAYERS - 2 else "unchanged"
        lines += [f"COPY file{number} /srv/file{number}", f"RUN echo {text} > /n{number + 1}"]
    return "\n".join(lines)


class PodmanBuild:
    """``podman build`` with a store of its own, above the host's images."""

    def __init__(self, plain: Podman, folder: Path) -> None:
        self.plain = plain
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def build(self, containerfile: str, *options: str) -> float:
        """Seconds that ``podman build`` takes; the context is :attr:`folder`."""
        (self.folder / "Containerfile").write_text(containerfile)
        # a chroot is a third faster than a container for each line
        words = ["--isolation=chroot", "--network=host", "--quiet", "--layers", "--pull=never"]
        return self.plain.seconds(("build", *words, f"--tag={_TAG}", *options, str(self.folder)))

    def apt(self) -> Sequence[str]:
        """Options that show a build the way to the archive that the host's own apt takes.

        Lists and archives are kept between builds, as ours are.
        """
        kept = self.folder.parent / f"{self.folder.name}-apt"
        for name in ("lists/partial", "archives/partial", "conf", "sources"):
            (kept / name).mkdir(parents=True, exist_ok=True)
        text = sources.apt_options() + '\nAPT::Keep-Downloaded-Packages "true";\n'
        (kept / "conf" / "host").write_text(text)
        entries = sources.sources_for("bookworm") or sources.default_entries("bookworm")
        (kept / "sources" / "host.sources").write_text(entries)
        places = {
            "lists": "/var/lib/apt/lists",
            "archives": "/var/cache/apt/archives",
            "conf": "/etc/apt/apt.conf.d",
            "sources": "/etc/apt/sources.list.d",
        }
        logins = [f"--volume={path}:{path}:ro" for path in sources.login_files()]
        return [*(f"--volume={kept / name}:{place}" for name, place in places.items()), *logins]


@contextmanager
def podman_build(folder: Path) -> Iterator[PodmanBuild]:
    """``podman build`` of a context, with a store that is thrown away afterwards."""
    with podman(network=True) as plain:
        yield PodmanBuild(plain, folder)
