"""Bundles: what comes out is what went in; what is damaged or foreign leaves nothing."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine
from pytest_carthage.errors import BundleError
from pytest_carthage.images.bundles import requirements
from pytest_carthage.images.bundles.manifest import MANIFEST, leads_inside
from pytest_carthage.images.bundles.requirements import Requirement
from pytest_carthage.images.bundles.suite import gather
from pytest_carthage.images.bundles.unbundle import Foreign, Unbundled, unbundle
from pytest_carthage.images.bundles.writing import write
from pytest_carthage.images.locks.lock import NAME
from pytest_carthage.images.locks.making import made_of
from pytest_carthage.planning import make_plan
from pytest_carthage.store import census
from pytest_carthage.store.outcomes import Outcome
from pytest_carthage.store.root import Store

from .handmade import ABOVE, BASE, BASE_AS_ROOT, Facts, Images, look, overlaid

pytestmark = pytest.mark.real

AS_ROOT = os.geteuid() == 0


class Pair(Layout):
    small = Image.debian("bookworm", name="debian")
    web = small.with_packages("nginx")
    one = Machine(small)
    two = Machine(web)


SUITE = {
    "conftest.py": "import pytest_carthage_fixtures.shop\nfrom helpers import deep\n",
    "helpers/deep.py": "import requests, json\n",
    "helpers/empty/.keep": "",
    "data/file with spaces ü": "x\n",
    "__pycache__/conftest.pyc": "x",
    ".git/config": "x",
    ".venv/pyvenv.cfg": "",
    ".venv/lib/module.py": "import nowhere_at_all",
    "lab.tar": "an older one",
}


class Shop:
    """A suite with two images, and bundles of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = Images(root / "here")
        script = BASE + (BASE_AS_ROOT if AS_ROOT else "")
        fields: dict[str, Any] = {"packages": {"bash": "5"}, "declared": "1" * 32, "size": 1 << 20}
        base = self.images.layer("b" * 32, script=script, **fields)
        above = self.images.layer(
            "c" * 32,
            [base],
            script=ABOVE,
            title="install nginx",
            declared="2" * 32,
            inputs={"files/a": "3f" * 32},
        )
        self.built = {
            "small": self.images.built(base, image=Pair.small),
            "web": self.images.built(base, above, image=Pair.web),
        }
        self.suite = root / "suite"
        for name, text in SUITE.items():
            path = self.suite / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.suite / "run.sh").write_text("#!/bin/sh\n")
        (self.suite / "run.sh").chmod(0o755)
        (self.suite / "link").symlink_to("data/file with spaces ü")
        self.lock = made_of(Pair, self.built, path=self.suite / NAME)

    def write(self, name: str = "lab.tar", *, notes: list[str] | None = None) -> Path:
        path = self.suite / name
        asyncio.run(
            write(
                path,
                Pair,
                make_plan(Pair),
                self.lock,
                self.built,
                self.suite,
                note=(notes if notes is not None else []).append,
            )
        )
        return path

    def read(
        self,
        path: Path,
        folder: str = "there/Pair",
        *,
        trust: Callable[[Foreign], bool] = lambda foreign: True,
    ) -> Unbundled:
        return asyncio.run(
            unbundle(
                path,
                self.root / folder,
                store=Store(self.root / "store"),
                note=lambda text: None,
                trust=trust,
            )
        )

    def left(self) -> list[str]:
        """What there is after something was refused."""
        store = Store(self.root / "store")
        names = [layer.key for layer in store.layers]
        for name in ("work", "names"):
            names += [path.name for path in store.folder(name).iterdir()]
        if (self.root / "there").exists():
            names += [path.name for path in (self.root / "there").iterdir()]
        return names


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return Shop(tmp_path)


def kept(facts: Facts) -> Facts:
    """Without what does not count for a deletion: overlayfs links them all to one."""
    kept_facts = {name: dict(fact) for name, fact in facts.items()}
    for fact in kept_facts.values():
        if fact.get("device") == 0:
            del fact["mtime"], fact["links"]
    return kept_facts


@pytest.mark.parametrize("name", ["lab.tar", "lab.tar.gz", "lab.tar.zst"])
def test_what_comes_out_is_what_went_in(shop: Shop, name: str) -> None:
    done = shop.read(shop.write(name))
    assert (done.new, done.folder) == (2, shop.root / "there/Pair")
    store = Store(shop.root / "store")
    for layer in shop.built["web"].layers:
        copy = store.layers.get(layer.key)
        assert copy is not None
        counted = census.count(copy.tree)
        assert (copy.meta.census, copy.meta.entries) == (counted.digest, counted.entries)
        assert copy.meta.origin.startswith(f"{name} (")
        bare = replace(copy.meta, size=0, census="", entries=0, origin="")
        assert bare == replace(layer.meta, size=0)
        assert kept(look(copy.tree)) == kept(look(layer.tree))
        assert list(store.outcomes.of(layer.meta.declared)) == [
            Outcome(inputs=dict(layer.meta.inputs), layer=layer.key)
        ]
    records = {record.key: record for record in store.records}
    assert records[Pair.web.key].layers == ("b" * 32, "c" * 32)
    assert records[Pair.small.key].name == "debian"
    assert store.is_complete(Pair.web.key)


def test_layers_from_elsewhere_are_asked_for_by_name(shop: Shop) -> None:
    asked: list[Foreign] = []

    def refuse(foreign: Foreign) -> bool:
        asked.append(foreign)
        return False

    path = shop.write()
    with pytest.raises(
        BundleError, match=r"lab\.tar: it is not trusted, and nothing of it was kept"
    ):
        shop.read(path, trust=refuse)
    assert shop.left() == []
    assert [foreign.titles for foreign in asked] == [("b" * 32, "install nginx")]
    shop.read(path)
    shop.read(path, "again", trust=refuse)  # there is nothing left to be asked
    assert len(asked) == 1


def test_bundle_takes_the_place_of_nothing_that_is_here(shop: Shop) -> None:
    """It may claim any key, any declaration and any image."""
    path = shop.write()
    here = Images(shop.root / "store")
    base = here.layer("b" * 32, script="echo ours > file", declared="1" * 32)
    other = here.layer("d" * 32, [base], script="echo ours > more", declared="2" * 32)
    here.store.outcomes.add("2" * 32, {}, other.key)
    here.store.outcomes.add("2" * 32, {"files/a": "3f" * 32}, other.key)
    here.store.records.keep(here.built(base, other, image=Pair.web).record(1000.0))
    assert shop.read(path).new == 1
    store = Store(shop.root / "store")
    assert (store.layers.path("b" * 32) / "tree/file").read_text() == "ours\n"
    assert [row.layer for row in store.outcomes.of("2" * 32)] == [other.key, other.key]
    record = store.records.get(Pair.web.key)
    assert record is not None
    assert record.layers == (base.key, other.key)
    foreign = store.layers.get("c" * 32)
    assert foreign is not None
    assert foreign.meta.origin
    assert not base.meta.origin


def test_deletions_are_deletions_again(shop: Shop) -> None:
    if not AS_ROOT:
        pytest.skip("overlays are mounted by root")
    shop.read(shop.write())
    web = shop.built["web"]
    store = Store(shop.root / "store")
    chain = store.layers.chain("c" * 32)
    assert chain is not None
    copy = replace(web, layers=chain, store=store)
    merged = overlaid(copy, shop.root / "copy")
    assert merged == overlaid(web, shop.root / "merged")
    assert "etc/gone" not in merged
    assert "etc/replaced/below" not in merged


def test_suite_has_all_but_caches(shop: Shop) -> None:
    done = shop.read(shop.write())
    assert sorted(str(path.relative_to(done.folder)) for path in done.folder.rglob("*")) == [
        "carthage.lock",
        "conftest.py",
        "data",
        "data/file with spaces ü",
        "helpers",
        "helpers/deep.py",
        "helpers/empty",
        "helpers/empty/.keep",
        "link",
        "run.sh",
    ]
    assert os.access(done.folder / "run.sh", os.X_OK)
    assert (done.folder / "link").read_text() == "x\n"
    assert (done.folder / "carthage.lock").read_text() == shop.lock.text


def test_requirements_are_what_the_suite_imports(shop: Shop) -> None:
    names = {one.name.lower() for one in shop.read(shop.write()).manifest.requires}
    # the fixtures are of the same distribution
    assert names == {"pytest", "pytest-carthage", "requests"}


def test_same_files_give_the_same_bundle(shop: Shop) -> None:
    first = hashlib.sha256(shop.write().read_bytes()).hexdigest()
    (shop.suite / "conftest.py").touch()
    assert hashlib.sha256(shop.write().read_bytes()).hexdigest() == first


def test_layers_are_read_for_their_hashes_only_once(shop: Shop) -> None:
    first: list[str] = []
    again: list[str] = []
    before = shop.write(notes=first).read_bytes()
    assert [note for note in first if note.startswith("reading layer")] == [
        f"reading layer 1 of 2: {'b' * 32}",
        "reading layer 2 of 2: install nginx",
    ]
    assert shop.write(notes=again).read_bytes() == before
    assert [note for note in again if note.startswith("reading layer")] == []


def test_layer_that_is_not_what_was_remembered_of_it_is_in_no_bundle(shop: Shop) -> None:
    path = shop.write()
    before = path.read_bytes()
    (shop.built["web"].layers[1].tree / "opt/new/file").write_text("changed by hand\n")
    with pytest.raises(BundleError, match=r"'install nginx' is not what it was .*; try: pyt"):
        shop.write()
    assert path.read_bytes() == before


def test_layers_that_are_there_are_not_unpacked_again(shop: Shop) -> None:
    path = shop.write()
    assert shop.read(path).new == 2
    assert shop.read(path, "there/again").new == 0


def test_folder_of_the_layouts_name_is_the_default(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop.root)
    store = Store(shop.root / "store")
    done = asyncio.run(
        unbundle(shop.write(), store=store, note=lambda text: None, trust=lambda foreign: True)
    )
    assert done.folder == shop.root / "Pair"


def test_files_that_tasks_read_beside_the_suite_come_along(shop: Shop) -> None:
    beside = shop.root / "production/roles/web"
    beside.mkdir(parents=True)
    (beside / "main.yml").write_text("- hosts: all\n")
    image = Image.debian("bookworm").with_(shop_file := _file(beside))
    layer = replace(
        shop.built["web"].layers[1],
        meta=replace(
            shop.built["web"].layers[1].meta,
            inputs={os.path.relpath(beside, Path(shop_file.place.file).parent): "5f" * 32},
        ),
    )
    built = {
        "web": replace(shop.built["web"], image=image, layers=(shop.built["web"].layers[0], layer))
    }
    suite = gather(shop.suite, built.values(), without=[])
    assert suite.top == shop.root
    assert "production/roles/web/main.yml" in suite.entries
    assert "suite/conftest.py" in suite.entries
    assert "here" not in suite.entries
    assert suite.outside == ()


def _file(source: Path) -> Any:
    from pytest_carthage import File

    return File(source, "/srv/web")


# refusing to write


def test_link_that_leads_outside_is_refused(shop: Shop) -> None:
    (shop.suite / "outside").symlink_to("/etc/hosts")
    message = r"the symbolic link .*/suite/outside leads to /etc/hosts, which is not in it; try: a"
    with pytest.raises(BundleError, match=message):
        shop.write()
    assert (shop.suite / "lab.tar").read_text() == "an older one"


@pytest.mark.parametrize(
    ("name", "target", "inside"),
    [
        ("link", "file", True),
        ("link", "a/b", True),
        ("a/link", "../b", True),
        ("a/b/link", "../../c", True),
        ("link", "../b", False),
        ("a/link", "../../b", False),
        ("a/link", "b/../c", False),
        ("a/link", "/a/b", False),
    ],
)
def test_link_leads_inside_by_steps_up_at_its_beginning(
    name: str, target: str, inside: bool
) -> None:
    assert leads_inside(name, target) is inside


def test_module_of_nobody_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    stray = shop.root / "elsewhere"
    stray.mkdir()
    (stray / "stray_module.py").write_text("")
    monkeypatch.syspath_prepend(stray)
    (shop.suite / "test_it.py").write_text("import stray_module\n")
    with pytest.raises(BundleError, match=r"neither in .*/suite nor installed: stray_module \(/"):
        shop.write()


def test_suffix_that_says_nothing_is_refused(shop: Shop) -> None:
    with pytest.raises(BundleError, match=r"lab\.zip: its name says nothing .*; try: \.tar, "):
        shop.write("lab.zip")


# refusing to read


def change(path: Path, what: Callable[[dict[str, Any]], object]) -> None:
    """Change what a bundle says of itself."""
    new = path.with_name("changed.tar")
    with tarfile.open(path) as old, tarfile.open(new, "w") as tar:
        for member in old:
            file = old.extractfile(member) if member.isfile() else None
            if member.name == MANIFEST:
                assert file is not None
                record = json.loads(file.read())
                what(record)
                data = json.dumps(record).encode()
                member.size, file = len(data), io.BytesIO(data)
            tar.addfile(member, file)
    new.rename(path)


def _rename(record: dict[str, Any], old: str, new: str) -> None:
    record["members"] = {new if n == old else n: member for n, member in record["members"].items()}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda told: told.update(version=9), "its version is 9, and not 1; try: the pytest-car"),
        (lambda told: told.update(format="x"), "it is no bundle of pytest-carthage"),
        (lambda told: told.update(architecture="vax"), "its images are for vax, and this host is"),
        (lambda told: told.pop("layers"), "its carthage-bundle.json is damaged (KeyError: 'layers"),
        (lambda told: told.update(layout="../x"), "'../x' is no name of a layout"),
        (lambda told: told.update(folder="../.."), "'../..' leads outside"),
        (
            lambda told: _rename(told, "suite/run.sh", "suite/../../run.sh"),
            "'suite/../../run.sh' leads outside",
        ),
        (lambda told: _rename(told, "suite/run.sh", "/etc/run.sh"), "'/etc/run.sh' leads outside"),
        (lambda told: _rename(told, "suite/run.sh", "etc/run"), "is nothing that a bundle has"),
        (
            lambda told: told["members"]["suite/link"].update(target="../../../etc/passwd"),
            "'suite/link' leads outside, to '../../../etc/passwd'",
        ),
        (
            lambda told: told["members"]["suite/link"].update(target="data/../../x"),
            "'suite/link' leads outside, to 'data/../../x'",
        ),
        (
            lambda told: _rename(told, "suite/run.sh", "suite/link/run.sh"),
            "'suite/link/run.sh' is below 'suite/link', which is a link",
        ),
        (lambda told: told["layers"].append("../x"), "'../x' is no key"),
        (lambda told: told["members"].pop("suite/run.sh"), "'suite/run.sh' does not belong to it"),
        (
            lambda told: told["members"].update({"suite/z": told["members"]["suite/run.sh"]}),
            "it ends before suite/z; try: to copy it once more",
        ),
        (lambda told: told["sizes"].update({"b" * 32: 1 << 60}), "its layers need 10995116277"),
    ],
)
def test_bundle_that_says_what_is_wrong_is_refused(
    shop: Shop, what: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = shop.write()
    change(path, what)
    with pytest.raises(BundleError, match=re.escape(message)):
        shop.read(path)
    assert shop.left() == []


def test_bundle_with_a_byte_changed_is_refused(shop: Shop) -> None:
    path = shop.write()
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        member = tar.getmember(f"layers/{'c' * 32}/tree.tar")
    data[member.offset_data + member.size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"it is damaged: layers/c+/tree\.tar is not what it was"):
        shop.read(path)
    assert shop.left() == []


@pytest.mark.parametrize("name", ["lab.tar", "lab.tar.gz", "lab.tar.zst"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.9])
def test_bundle_that_ends_too_early_is_refused(shop: Shop, name: str, part: float) -> None:
    path = shop.write(name)
    os.truncate(path, int(path.stat().st_size * part))
    with pytest.raises(BundleError, match=rf"bundle {path}: it is (damaged|no bundle)"):
        shop.read(path)
    assert shop.left() == []


def test_foreign_files_are_refused(shop: Shop) -> None:
    path = shop.root / "foreign.tar"
    path.write_text("no tar at all\n" * 1000)
    with pytest.raises(BundleError, match=r"foreign\.tar: it is damaged, or no bundle: "):
        shop.read(path)
    subprocess.run(["tar", "-cf", path, "-C", shop.suite, "conftest.py"], check=True)
    with pytest.raises(BundleError, match=r"it is no bundle of pytest-carthage; try: a file that"):
        shop.read(path)
    with pytest.raises(BundleError, match="there is no such file"):
        shop.read(shop.root / "nowhere.tar")
    assert shop.left() == []


def test_folder_that_has_something_is_refused(shop: Shop) -> None:
    path = shop.write()
    (shop.root / "there/Pair").mkdir(parents=True)
    (shop.root / "there/Pair/mine").write_text("mine")
    message = r"there/Pair has something already; try: pytest-carthage unbundle lab.tar FOLDER"
    with pytest.raises(BundleError, match=message):
        shop.read(path)
    assert shop.left() == ["Pair"]
    assert (shop.root / "there/Pair/mine").read_text() == "mine"
    (shop.root / "there/Pair/mine").unlink()
    assert shop.read(path).folder.is_dir()


def test_layer_that_leads_outside_leaves_nothing(shop: Shop) -> None:
    """Its hashes are right: somebody has made it so."""
    path = shop.write()
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as tar:
        link = tarfile.TarInfo("etc")
        link.type, link.linkname = tarfile.SYMTYPE, str(shop.root)
        tar.addfile(link)
        data = b"evil"
        file = tarfile.TarInfo("etc/evil")
        file.size = len(data)
        tar.addfile(file, io.BytesIO(data))
    name = f"layers/{'c' * 32}/tree.tar"
    data = evil.getvalue()
    new = path.with_name("evil.tar")
    with tarfile.open(path) as old, tarfile.open(new, "w") as tar:
        for member in old:
            content = old.extractfile(member) if member.isfile() else None
            if member.name == MANIFEST:
                assert content is not None
                record = json.loads(content.read())
                fields = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                record["members"][name].update(fields)
                text = json.dumps(record).encode()
                member.size, content = len(text), io.BytesIO(text)
            elif member.name == name:
                member.size, content = len(data), io.BytesIO(data)
            tar.addfile(member, content)
    with pytest.raises(BundleError, match=r"'install nginx' cannot be unpacked: damaged: /etc is"):
        shop.read(new)
    assert shop.left() == []
    assert not (shop.root / "evil").exists()


def test_disk_that_is_full_leaves_nothing(shop: Shop) -> None:
    if not AS_ROOT:
        pytest.skip("file systems are mounted by root")
    path = shop.write()
    change(path, lambda printed: printed.update(sizes=dict.fromkeys(printed["sizes"], 0)))
    script = """
        mount -t tmpfs -o size=2m tmpfs "$1/store" && cd "$1" && shift && exec "$@"
    """
    (shop.root / "store").mkdir()
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from pytest_carthage.store.root import Store\n"
        "from pytest_carthage.images.bundles.unbundle import unbundle\n"
        "store = Store(Path('store').absolute())\n"
        "try:\n"
        "    asyncio.run(unbundle(Path(sys.argv[1]), Path('there/Pair'), store=store,\n"
        "        note=lambda text: None, trust=lambda foreign: True))\n"
        "except Exception as error:\n"
        "    print(error)\n"
        "print([path.name for name in ('layers', 'work', 'names')\n"
        "    for path in store.folder(name).iterdir()], list(Path('there').iterdir()))\n"
    )
    argv = ["unshare", "--mount", "sh", "-ec", script, "sh", str(shop.root)]
    argv += [sys.executable, "-c", code, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    printed, left = done.stdout.strip().rsplit("\n", 1)
    assert "No space left on device" in printed
    assert "pytest-carthage images gc" in printed
    assert left == "[] []"


# requirements


def test_requirement_that_is_missing_or_other_is_named() -> None:
    here = requirements.of_files([], [], Path("/nowhere")).distributions
    assert list(requirements.missing(here)) == []
    old = Requirement(name="pytest", version="1.0")
    none = Requirement(name="no-such-distribution", version="1.0")
    here_instead = dict(requirements.missing([old, none]))
    assert here_instead[none] == ""
    assert here_instead[old] == pytest.__version__
