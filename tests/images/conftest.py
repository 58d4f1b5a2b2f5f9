"""A store of a test's own, in which a small Debian is there already."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pytest_carthage import Image
from pytest_carthage.images import recipe
from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.building.python import lender
from pytest_carthage.images.policy import Policy
from pytest_carthage.portal import Portal
from pytest_carthage.store.built import Built
from pytest_carthage.store.layer import LayerMeta
from pytest_carthage.store.root import Store
from tests.support.host import host_cache

#: built once on a host, by whichever test needs it first
DEBIAN = Image.debian("bookworm", name="small")


class Lab:
    """A store of its own, with the host's Debian packages, and images built in it."""

    def __init__(self, root: Path, portal: Portal) -> None:
        self.store = Store(root)
        self.store.prepare()
        self.store.folder("apt").rmdir()
        self.store.folder("apt").symlink_to(host_cache())
        self.portal = portal
        #: what was told while building
        self.notes: list[str] = []

    def build(self, image: Image, policy: Policy | None = None) -> Built:
        """Build an image here."""
        return self.portal.call(
            lambda: ensure(
                image,
                portal=self.portal,
                note=lambda who, text: self.notes.append(text),
                policy=policy,
                store=self.store,
            )
        )

    def lend(self, built: Built) -> None:
        """Have the base of an image that is built elsewhere, without a copy."""
        base, origin = built.layers[0], built.image.origin
        key = recipe.base_key(built.image.base, base.meta.inputs)
        work = self.store.folder("work") / key
        work.mkdir()
        (work / "tree").symlink_to(base.tree)
        fields = {name: getattr(base.meta, name) for name in LayerMeta.__dataclass_fields__}
        self.store.layers.commit(
            work, LayerMeta(**{**fields, "key": key, "title": f"base {origin}"})
        )

    def traces(self) -> list[str]:
        """What builds have left beside layers: folders, mounts, processes."""
        root = str(self.store.root)
        traces = [str(path) for path in self.store.folder("work").iterdir()]
        traces += [line for line in Path("/proc/mounts").read_text().splitlines() if root in line]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                text = (process / "cmdline").read_text()
            except OSError:
                continue
            if root in text and process.name != str(os.getpid()):
                traces.append(text)
        return traces


@pytest.fixture(scope="session")
def portal() -> Iterator[Portal]:
    """An event loop in a thread of its own."""
    portal = Portal()
    yield portal
    portal.close()


@pytest.fixture(scope="session")
def small(portal: Portal) -> Built:
    """A minimal Debian, in the host's own store."""
    if problems := check_tools({"debian"}):
        pytest.skip("; ".join(map(str, problems)))
    return portal.call(lambda: ensure(DEBIAN, portal=portal, note=lambda who, text: None))


@pytest.fixture
def python_for_ansible(portal: Portal, lab: Lab) -> None:
    """What is lent to images without a Python, made before in the host's own store."""
    image = lender("bookworm")
    lab.lend(portal.call(lambda: ensure(image, portal=portal, note=lambda who, text: None)))


@pytest.fixture
def lab(tmp_path: Path, portal: Portal, small: Built) -> Iterator[Lab]:
    """A store of this test's own, with the minimal Debian in it."""
    made = Lab(tmp_path / "images", portal)
    made.lend(small)
    yield made
    made.store.release()


Module = Callable[[str], dict[str, object]]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Run the text of an author's file, as if it had been edited in between; gives its names."""
    import linecache

    folder = tmp_path / "suite"
    folder.mkdir(exist_ok=True)

    def run(text: str) -> dict[str, object]:
        path = folder / "conftest.py"
        path.write_text("from pytest_carthage import *\nfrom dataclasses import dataclass\n" + text)
        linecache.checkcache(str(path))
        made = ModuleType("edited_conftest")
        made.__file__ = str(path)
        monkeypatch.setitem(sys.modules, made.__name__, made)
        exec(compile(path.read_text(), str(path), "exec"), made.__dict__)
        return made.__dict__

    return run


def run(*words: str) -> str:
    """Run a program; returns what it printed."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
