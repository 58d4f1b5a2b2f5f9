"""A store of images with layers that were made by hand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pytest_carthage.store.disk import disk_usage
from pytest_carthage.store.layer import Layer, LayerMeta
from pytest_carthage.store.records import ImageRecord
from pytest_carthage.store.root import Store

DAY_S = 86400.0


def key_of(text: str) -> str:
    """A key, the same for the same text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Shelf:
    """Layers and images of a test's own."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.store.prepare()

    def layer(
        self,
        title: str,
        below: Layer | None = None,
        *,
        kib: int = 8,
        tree: Path | None = None,
        inputs: Mapping[str, str] | None = None,
        role: str = "",
    ) -> Layer:
        """A layer with one file of this size, or with a tree."""
        key = key_of(title)
        work = self.store.folder("work") / key
        work.mkdir()
        if tree is None:
            (work / "tree").mkdir()
            (work / "tree" / title.replace(" ", "-")).write_bytes(os.urandom(kib * 1024))
        else:
            shutil.copytree(tree, work / "tree", symlinks=True)
        meta = LayerMeta(
            key=key,
            parent=below.key if below else None,
            kind="task" if below else "base",
            title=title,
            role=role,
            command=title,
            inputs=inputs or {},
            made_at=1_700_000_000.0,
            seconds=2.5,
            size=disk_usage(work / "tree"),
        )
        return self.store.layers.commit(work, meta)

    def image(
        self,
        name: str,
        *layers: Layer,
        tag: str | None = None,
        days: float = 0,
        version: str = "",
        config: Mapping[str, object] | None = None,
    ) -> ImageRecord:
        """An image that was used so many days ago."""
        then = time.time() - days * DAY_S
        record = ImageRecord(
            key=key_of(f"image {name}{version}"),
            name=name,
            tag=tag,
            layers=tuple(layer.key for layer in layers),
            built_at=then,
            used_at=then,
            config=config or {},
        )
        path = self.store.folder("names") / f"{record.key}.json"
        path.write_text(json.dumps(asdict(record)))
        os.utime(path, (then, then))
        return record

    def broken(self, name: str, *layers: Layer, days: float = 0, task: str = "install") -> Path:
        """A build that failed so many days ago."""
        path = self.store.folder("broken") / name
        (path / "tree/etc").mkdir(parents=True)
        (path / "tree/etc/half").write_text("done\n")
        told = {
            "image": name,
            "title": task,
            "layers": [layer.key for layer in layers],
            "error": "it exited with status 3",
            "at": time.time() - days * DAY_S,
        }
        (path / "broken.json").write_text(json.dumps(told))
        return path

    def titles(self) -> set[str]:
        """Titles of the layers that there are."""
        return {layer.meta.title for layer in self.store.layers}

    def names(self) -> list[str]:
        """Names of the images that there are, sorted."""
        return sorted(record.name for record in self.store.records)


def tiny_system(folder: Path, programs: Sequence[str] = ("sh", "cat", "hostname", "sleep")) -> Path:
    """A root file system with these programs of the host, and what they need to run."""
    for name in ("bin", "etc"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    for program in programs:
        path = shutil.which(program)
        assert path is not None
        shutil.copy(Path(path).resolve(), folder / "bin" / program)
        told = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for line in told.splitlines():
            for word in line.split():
                if word.startswith("/"):
                    target = folder / word.lstrip("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with contextlib.suppress(shutil.SameFileError):
                        shutil.copy(Path(word).resolve(), target)
    return folder
