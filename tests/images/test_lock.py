"""Locks: what is written, what a mistake is told, and builds that would differ."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, filesystem_task
from pytest_carthage.errors import BuildError, LockError
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.locks import comparison
from pytest_carthage.images.locks.files import located, named
from pytest_carthage.images.locks.finding import find
from pytest_carthage.images.locks.lock import NAME, Ansible, Lock, LockedLayer
from pytest_carthage.images.locks.making import locked_image, made_of
from pytest_carthage.images.policy import Policy
from pytest_carthage.images.preflight import check, check_layout
from pytest_carthage.model.file import File
from pytest_carthage.model.keys.inputs import hash_of
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.images import images_of
from pytest_carthage.portal import Portal
from pytest_carthage.store.built import Built
from pytest_carthage.store.root import Store
from pytest_carthage.work.files.filesystem import AsyncFilesystem, Filesystem

from .handmade import Images

PACKAGES = {"base-files": "12.4", "nginx": "1.22.1-9", "perl": "5.36.0-7"}


def status(packages: Mapping[str, str]) -> str:
    return "".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\n"
        f"Version: {version}\n\n"
        for name, version in packages.items()
    )


class Pair(Layout):
    small = Image.debian("bookworm", name="debian")
    web = small.with_packages("nginx")
    one = Machine(small)
    two = Machine(web)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


@pytest.fixture
def built(images: Images) -> dict[str, Built]:
    """Pair's images, by hand."""
    there = {"base-files": "12.4", "perl": "5.36.0-7"}
    script = f"mkdir -p var/lib/dpkg; printf '%s' '{status(there)}' > var/lib/dpkg/status"
    base = images.layer("b" * 32, packages=there, script=script, command="debian bookworm")
    above = images.layer("c" * 32, [base], packages=PACKAGES, title="install nginx")
    return {
        "small": images.built(base, image=Pair.small),
        "web": images.built(base, above, image=Pair.web),
    }


@pytest.fixture
def lock(built: dict[str, Built], tmp_path: Path) -> Lock:
    made = made_of(Pair, built, path=tmp_path / NAME)
    made.save()
    return made


# the file


def test_lock_says_what_was_built(lock: Lock) -> None:
    record = json.loads(lock.path.read_text())
    assert list(record) == ["version", "layout", "images", "files", "ansible"]
    assert (record["version"], record["layout"]) == (1, "Pair")
    web = record["images"]["web"]
    assert web["declared"] == Pair.web.key
    assert web["base"]["made_of"] == "debian bookworm"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", web["base"]["digest"])
    assert web["packages"] == PACKAGES
    assert [layer["key"] for layer in web["layers"]] == ["b" * 32, "c" * 32]
    assert record["images"]["small"]["packages"] == {"base-files": "12.4", "perl": "5.36.0-7"}
    assert record["ansible"] is None


def test_lock_has_one_line_for_each_package_and_an_order(lock: Lock) -> None:
    lines = lock.path.read_text().splitlines()
    packages = [line.strip() for line in lines if "5.36" in line or "12.4" in line]
    assert packages == ['"base-files": "12.4",', '"perl": "5.36.0-7"'] * 2
    assert Lock.load(lock.path) == lock
    assert Lock.load(lock.path).text == lock.path.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is none; try: pytest-carthage lock LAYOUT, which writes it"),
        ("{", "it is damaged (Expecting property name"),
        ("[]", "it is no lock, and not 1"),
        ('{"version": 7}', "its version is 7, and not 1"),
        ('{"version": 1, "layout": "Pair"}', "it is damaged (KeyError: 'images')"),
        (
            '{"version": 1, "layout": "Pair", "images": {}, "files": {"a": 1}, "ansible": null}',
            "it is damaged (TypeError: 1 is no text)",
        ),
        (
            '{"version": 1, "layout": 3, "images": [], "files": {}, "ansible": null}',
            "it is damaged",
        ),
    ],
)
def test_lock_that_cannot_be_read_is_told(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / NAME
    if text is not None:
        path.write_text(text)
    with pytest.raises(LockError, match=re.escape(f"lock {path}: {message}")):
        Lock.load(path)


def test_lock_that_cannot_be_written_is_told(lock: Lock) -> None:
    path = lock.path / "below" / NAME
    with pytest.raises(LockError, match=f"lock {path}: it cannot be written: Not a directory"):
        replace(lock, path=path).save()


# which one


def test_lock_is_found_beside_and_above(lock: Lock, tmp_path: Path) -> None:
    below = tmp_path / "tests"
    nearest = find(Pair, [], folder=tmp_path, places=[below, tmp_path])
    assert nearest == lock
    with pytest.raises(LockError, match=rf"'Pair': there is no carthage.lock in {below}; try: "):
        find(Pair, [], folder=tmp_path, places=[below])


def test_lock_of_another_layout_is_refused(lock: Lock, tmp_path: Path) -> None:
    class Other(Layout):
        one = Machine()

    message = f"'Other': no lock of it is given, but: {lock.path} of 'Pair'; try: "
    with pytest.raises(LockError, match=re.escape(message)):
        find(Other, [], folder=tmp_path, places=[tmp_path])
    replace(lock, path=tmp_path / "other.lock", layout="Other").save()
    named = find(Other, ["carthage.lock", "other.lock"], folder=tmp_path, places=[])
    assert named.layout == "Other"


# what differs


def test_declarations_that_changed_are_named(lock: Lock) -> None:
    class Changed(Pair):
        web = Pair.small.with_packages("apache2")
        extra = Image.debian("bookworm", packages=["vim"])
        small = None  # type: ignore[assignment]

    differences = list(comparison.declaration_differences(lock, "Pair", Changed.images()))
    assert differences == [
        "image 'small': locked, now the layout 'Pair' has none of that name",
        "image 'extra': not locked, now layout 'Pair' has it",
        "image 'web': task 'install apache2' is not locked",
        "image 'web': task 'install nginx' is locked, and there is none now",
    ]


def test_base_and_order_that_changed_are_named(lock: Lock) -> None:
    other = {"web": Image.debian("trixie").with_packages("nginx"), "small": Pair.small}
    (difference,) = comparison.declaration_differences(lock, "Pair", other)
    assert difference == "image 'web': its base, configuration or tag is declared otherwise"


def test_files_that_changed_are_named(lock: Lock, tmp_path: Path) -> None:
    (tmp_path / "here").write_text("same")
    (tmp_path / "there").write_text("before")
    files = {name: hash_of(tmp_path / name) for name in ("here", "there")}
    changed = replace(lock, files={**files, "gone": "5f" * 32})
    assert list(comparison.file_differences(changed)) == [
        "file gone: locked 5f5f5f5f5f5f, now not there"
    ]
    (tmp_path / "there").write_text("after")
    now = hash_of(tmp_path / "there")[:12]
    assert list(comparison.file_differences(changed)) == [
        f"file there: locked {files['there'][:12]}, now {now}",
        "file gone: locked 5f5f5f5f5f5f, now not there",
    ]


def test_ansible_that_changed_is_named(lock: Lock) -> None:
    changed = replace(lock, ansible=Ansible(version="2.17.1", collections={"a.b": "1", "c.d": "2"}))
    assert list(
        comparison.ansible_differences(changed, Ansible(version="2.17.1", collections={}))
    ) == [
        "Ansible collection a.b: locked 1, now none",
        "Ansible collection c.d: locked 2, now none",
    ]
    assert "ansible-core: locked 2.17.1, now none" in comparison.ansible_differences(changed, None)
    now = Ansible(version="2.18", collections={"a.b": "1", "c.d": "2", "e.f": "3"})
    assert list(comparison.ansible_differences(changed, now)) == [
        "ansible-core: locked 2.17.1, now 2.18",
        "Ansible collection e.f: not locked, now 3",
    ]
    assert list(comparison.ansible_differences(lock, now)) == []


def test_differences_are_sorted_and_not_too_many() -> None:
    now = {f"package-{number:02}": "2" for number in range(30)}
    text = comparison.listed(
        comparison.package_differences(dict.fromkeys(now, "1"), now, has_all=True)
    )
    lines = text.splitlines()
    assert lines[0] == "  package package-00: locked 1, now 2"
    assert lines[-1] == "  and 10 more"
    assert len(lines) == 21


def test_layer_of_other_packages_is_refused(lock: Lock, built: dict[str, Built]) -> None:
    base, above = built["web"].layers
    there = {**PACKAGES, "nginx": "1.26.0-1"}
    message = (
        f"image 'debian': its layer 'install nginx' was built, and is not kept, and differs from "
        f"the lock {lock.path}:\n  package nginx: locked 1.22.1-9, now 1.26.0-1\ntry: "
        "`pytest-carthage lock` again, to take what is there now, or "
        'Image.debian(..., mirror="http://snapshot.debian.org/archive/debian/DATE"), which'
    )
    with pytest.raises(LockError, match=re.escape(message)):
        comparison.check_layer(lock, Pair.web, 1, above.meta, above.tree, there, is_new=True)
    comparison.check_layer(lock, Pair.web, 1, above.meta, above.tree, PACKAGES, is_new=True)
    meta = replace(base.meta, key="z" * 32)
    with pytest.raises(LockError, match=r"layer 'b+': locked b+, now z+, of other files"):
        comparison.check_layer(
            lock, Pair.web, 0, meta, base.tree, base.meta.packages or {}, is_new=True
        )


def test_image_that_is_not_locked_is_refused(lock: Lock) -> None:
    comparison.refuse_image(lock, Pair.web)
    other = Image.debian("trixie", name="other")
    with pytest.raises(LockError, match=r"image 'other' \(.*test_lock.py:\d+\): .*it has: small, "):
        comparison.refuse_image(lock, other)


def test_image_of_a_machines_roles_has_a_name() -> None:
    class Roles(Layout):
        debian = Image.debian("bookworm")
        plain = Machine(debian)
        first = Machine(debian, init="systemd")
        second = Machine(debian, init="systemd")

    assert list(images_of(make_plan(Roles))) == ["debian", "debian for first, second"]


# files by name


def test_files_have_names_that_can_be_moved(tmp_path: Path) -> None:
    suite = tmp_path / "work/suite"
    assert named(suite / "files/a", suite) == "files/a"
    assert named(suite.parent / "production/b", suite) == "../production/b"
    assert named(Path("/etc/hosts"), suite) == "/etc/hosts"
    import pytest_carthage_fixtures

    package = Path(pytest_carthage_fixtures.__file__).parent
    inside = package / "shop/exports/shop.sql.gz"
    assert named(inside, suite) == "pytest_carthage_fixtures:shop/exports/shop.sql.gz"
    for path in (suite / "files/a", suite.parent / "production/b", inside, Path("/etc/hosts")):
        assert Path(os.path.normpath(located(named(path, suite), suite))) == path


_MOVED = """
from dataclasses import dataclass
from pathlib import Path
from pytest_carthage import File, Image, Role, filesystem_task

HERE = Path(__file__).parent
SETTINGS = HERE / "settings"

def helper(fs):
    fs.put(SETTINGS, "/etc/settings")

@dataclass(frozen=True, slots=True, kw_only=True)
class Web(Role):
    source: Path

    @filesystem_task("configure")
    def configure(self, fs):
        helper(fs)
        fs.put(self.source, "/srv/source")

image = Image.rootfs("root.tar").with_(
    Web(source=HERE / "source"), File("settings", "/etc/a"), File("../beside", "/etc/b")
)
"""


def test_keys_stay_when_the_suite_is_moved(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from pytest_carthage.reference.layouts import load_file
        way, path = sys.argv[1:]
        if way == "file":
            module = load_file(Path(path))
        else:
            sys.path.insert(0, str(Path(path).parent))
            import conftest as module
        print(module.image.key, *(step.key for step in module.image.steps))
    """)
    found = set()
    for folder in ("here", "there/deep"):
        suite = tmp_path / folder / "suite"
        suite.mkdir(parents=True)
        path = suite / "conftest.py"
        path.write_text(_MOVED)
        for way in ("file", "import"):
            argv = [sys.executable, "-c", code, way, str(path)]
            found.add(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1
    keys = found.pop().split()
    assert len(set(keys)) == len(keys) == 4


def test_files_of_one_target_and_another_source_are_two() -> None:
    base = Image.debian("bookworm")
    first, other = (base.with_(File(name, "/etc/x")) for name in ("test_lock.py", "conftest.py"))
    assert first.key != other.key
    assert first.steps[0].key != other.steps[0].key


# real builds


@filesystem_task("write the version")
def write_version(fs: Filesystem) -> None:
    text = fs.read_text("/var/lib/dpkg/status")
    # nobody knows that it reads this
    version = Path(os.environ["TEST_VERSION"]).read_text()
    fs.write_text("/var/lib/dpkg/status", text.replace("1.22.1-9", version))


class Bench:
    """A layout with an image that takes no time, in a store of its own."""

    def __init__(self, root: Path, portal: Portal) -> None:
        self.store = Store(root / "images")
        self.portal = portal
        self.settings = root / "settings"
        self.settings.write_text("first\n")
        system = root / "system"
        (system / "var/lib/dpkg").mkdir(parents=True)
        (system / "var/lib/dpkg/status").write_text(status(PACKAGES))
        (system / "etc").mkdir()
        image = Image.rootfs(system, name="tiny").with_(
            write_version, File(self.settings, "/etc/settings")
        )

        class Tiny(Layout):
            tiny = image
            one = Machine(tiny, on="podman")

        self.layout = Tiny
        self.plan = make_plan(Tiny)
        self.path = root / NAME

    def build(self, policy: Policy) -> Built:
        async def work() -> Built:
            await check_layout(
                self.layout, self.plan, policy, note=lambda who, text: None, store=self.store
            )
            return await ensure(
                self.layout.tiny,
                portal=self.portal,
                note=lambda who, text: None,
                policy=policy,
                store=self.store,
            )

        return self.portal.call(work)

    def lock(self) -> Lock:
        built = self.build(Policy())
        return made_of(self.layout, {"tiny": built}, path=self.path)

    def remove(self, *titles: str) -> None:
        self.store.release()
        for record in self.store.records:
            assert self.store.forget(record)
        keys = {layer.meta.title: layer.key for layer in self.store.layers}
        for title in titles:
            assert self.store.remove(keys[title])

    @property
    def titles(self) -> set[str]:
        return {layer.meta.title for layer in self.store.layers}


@pytest.fixture
def bench(tmp_path: Path, portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    version = tmp_path / "version"
    version.write_text("1.22.1-9")
    monkeypatch.setenv("TEST_VERSION", str(version))
    made = Bench(tmp_path, portal)
    yield made
    made.store.release()


ALL = {"base rootfs system", "write the version", "copy settings to /etc/settings"}


@pytest.mark.real
def test_locked_build_that_is_the_same_goes_on(bench: Bench) -> None:
    lock = bench.lock()
    assert lock.files == {"settings": hash_of(bench.settings)}
    bench.remove("copy settings to /etc/settings", "write the version")
    assert bench.build(Policy(lock=lock)).packages == PACKAGES
    assert bench.titles == ALL


@pytest.mark.real
def test_file_that_changed_stops_before_anything_is_built(bench: Bench) -> None:
    lock = bench.lock()
    bench.remove("copy settings to /etc/settings", "write the version")
    bench.settings.write_text("second\n")
    message = r"layout 'Tiny': one thing differs .* nothing was built:\n  file settings: locked "
    with pytest.raises(LockError, match=message):
        bench.build(Policy(lock=lock))
    assert bench.titles == {"base rootfs system"}


@pytest.mark.real
def test_base_of_other_files_stops_before_anything_is_built(bench: Bench) -> None:
    lock = bench.lock()
    (bench.settings.parent / "system/etc/more").write_text("")
    with pytest.raises(LockError, match=r"  image 'tiny': base: .*system: not what it was when"):
        bench.build(Policy(lock=lock))
    assert bench.titles == ALL


@pytest.mark.real
def test_layer_that_differs_is_not_kept(bench: Bench) -> None:
    lock = bench.lock()
    bench.remove("copy settings to /etc/settings", "write the version")
    Path(os.environ["TEST_VERSION"]).write_text("9.9")
    message = (
        r"image 'tiny': its layer 'write the version' was built, and is not kept, .*\n"
        r"  package nginx: locked 1.22.1-9, now 9.9\n"
    )
    with pytest.raises(LockError, match=message):
        bench.build(Policy(lock=lock))
    assert bench.titles == {"base rootfs system"}
    assert list(bench.store.folder("work").iterdir()) == []


@pytest.mark.real
def test_layer_in_the_store_that_differs_is_told(bench: Bench) -> None:
    lock = bench.lock()
    bench.remove("copy settings to /etc/settings", "write the version")
    Path(os.environ["TEST_VERSION"]).write_text("9.9")
    bench.build(Policy())
    with pytest.raises(LockError, match=r"nginx: locked 1.22.1-9, now 9.9\n.*images rm tiny"):
        bench.build(Policy(lock=lock))
    assert bench.titles == ALL


@pytest.mark.real
def test_lock_of_another_layout_stops_everything(bench: Bench) -> None:
    lock = replace(bench.lock(), layout="Shop")
    with pytest.raises(LockError, match=r"'Tiny': the lock .* is of another layout, 'Shop'; try: "):
        bench.build(Policy(lock=lock))


@pytest.mark.real
def test_packages_of_the_archive_are_compared_before(
    small: Built, portal: Portal, tmp_path: Path
) -> None:
    image = small.image.with_packages("hello")
    base = locked_image(small)
    wanted = LockedLayer(
        key="f" * 32, title="install hello", step=image.steps[0].key, packages="0" * 32
    )
    locked = replace(
        base,
        declared=image.key,
        layers=(*base.layers, wanted),
        packages={**base.packages, "hello": "1.0-1"},
    )
    lock = Lock(path=tmp_path / NAME, layout="Pair", images={"web": locked}, files={})

    def ask(images: dict[str, Image], policy: Policy, store: Store) -> None:
        portal.call(lambda: check("Pair", images, policy, note=lambda who, text: None, store=store))

    with pytest.raises(LockError, match=r"  image 'web': package hello: locked 1.0-1, now 2\.\d+"):
        ask({"web": image}, Policy(lock=lock), small.store)

    # the base, too
    empty = Store(tmp_path / "empty")
    empty.prepare()
    empty.folder("apt").rmdir()
    empty.folder("apt").symlink_to(small.store.folder("apt"))
    old = replace(
        base,
        layers=(replace(base.layers[0], packages="0" * 32),),
        packages={**base.packages, "bash": "1.0"},
    )
    lock = replace(lock, images={"small": old})
    with pytest.raises(LockError, match=r"one thing differs.*\n  image 'small': package bash: lo"):
        ask({"small": small.image}, Policy(lock=lock), empty)
    assert list(empty.layers) == []


# offline


@pytest.mark.real
def test_base_that_is_missing_offline_is_named(tmp_path: Path, portal: Portal) -> None:
    store = Store(tmp_path / "empty")

    def ask(**images: Image) -> None:
        portal.call(
            lambda: check(
                "Pair", images, Policy(offline=True), note=lambda who, text: None, store=store
            )
        )

    message = (
        r"this run is offline, .*:\n"
        r"  image 'small': layer 'base debian bookworm \(minbase\)' is missing: "
        r"packages of Debian bookworm .*offline"
    )
    with pytest.raises(BuildError, match=message) as caught:
        ask(small=Pair.small, web=Pair.web)
    assert "image 'web': layer 'base debian bookworm (minbase)' is missing" in str(caught.value)
    with pytest.raises(BuildError, match=r"  image 'nowhere' \(.*nowhere\.tar is not"):
        ask(tar=Image.rootfs("nowhere.tar"))
    with pytest.raises(BuildError, match=r"image 'web': .*docker://registry\.invalid/web"):
        ask(web=Image.oci("docker://registry.invalid/web"))


@pytest.mark.real
def test_packages_and_networks_that_are_missing_offline_are_named(
    small: Built, portal: Portal, tmp_path: Path
) -> None:
    @filesystem_task("fetch", network=True)
    async def fetch(fs: AsyncFilesystem) -> None:
        raise AssertionError

    store = Store(tmp_path / "images")
    store.prepare()
    layer = small.layers[0]
    (store.folder("layers") / layer.key).symlink_to(layer.path)
    image = small.image.with_packages("hello").with_(fetch)

    async def ask() -> None:
        await check(
            "Pair", {"web": image}, Policy(offline=True), note=lambda who, text: None, store=store
        )

    with pytest.raises(BuildError) as caught:
        portal.call(ask)
    told = str(caught.value)
    assert "  image 'web': layer 'install hello' is missing: packages of Debian bookworm" in told
    assert "  image 'web': layer 'fetch' is missing: its task (" in told
    assert told.count("try: ") == 1


@pytest.mark.real
def test_base_whose_source_is_gone_is_recognised_offline(bench: Bench) -> None:
    built = bench.build(Policy())
    (bench.settings.parent / "system").rename(bench.settings.parent / "elsewhere")
    again = bench.build(Policy(offline=True))
    assert [layer.key for layer in again.layers] == [layer.key for layer in built.layers]
    with pytest.raises(BuildError, match="system"):
        bench.build(Policy())


def test_collections_of_ansible_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_carthage.work.ansible.installation import collections

    pytest.importorskip("ansible")
    folder = tmp_path / "ansible_collections/carthage/things"
    folder.mkdir(parents=True)
    manifest: dict[str, Any] = {"namespace": "carthage", "name": "things", "version": "1.2.3"}
    (folder / "MANIFEST.json").write_text(json.dumps({"collection_info": manifest, "format": 1}))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(tmp_path))
    assert collections(tmp_path) == {"carthage.things": "1.2.3"}
