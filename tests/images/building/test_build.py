"""What builds have in common: layers that are held, compared, and put away; without a base."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import BuildError, LockError
from pytest_carthage.images.building.bench import emptied, leave_only_tree, packages_of, tools
from pytest_carthage.images.building.build import Build, space_advice
from pytest_carthage.images.building.python import lender, lender_for
from pytest_carthage.images.building.step import _machine_name
from pytest_carthage.images.locks.lock import Lock, LockedImage, LockedLayer
from pytest_carthage.images.policy import Policy
from pytest_carthage.portal import Portal
from pytest_carthage.store.layer import Layer, LayerMeta
from pytest_carthage.store.root import Store
from tests.images.handmade import Images

KEY = "b" * 32
DEBIAN = Image.debian("bookworm", name="small")


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


@pytest.fixture
def build(images: Images) -> Iterator[Build]:
    portal: Any = None  # nothing of it is needed
    made = Build(
        image=DEBIAN,
        store=images.store,
        portal=portal,
        note=lambda who, text: None,
        policy=Policy(),
    )
    yield made
    made.let_go()


async def work_for(store: Store, key: str = KEY) -> tuple[Path, LayerMeta]:
    work = await emptied(store.work(key))
    leave_only_tree(work)
    return work, LayerMeta(key=key, parent=None, kind="base", title="base")


@pytest.mark.asyncio
async def test_layer_is_held_from_before_others_see_it(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = build.store.layers
    commit = layers.commit

    def commit_and_sweep(work: Path, meta: LayerMeta) -> Layer:
        layer = commit(work, meta)
        assert not build.store.remove(meta.key)  # as another process does, at that moment
        return layer

    monkeypatch.setattr(layers, "commit", commit_and_sweep)
    layer = await build.commit(*await work_for(build.store))
    assert not build.store.remove(layer.key)
    build.let_go()
    assert build.store.remove(layer.key)


@pytest.mark.asyncio
async def test_layer_that_is_removed_at_once_is_told(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(self: Build, layer: Layer) -> bool:
        return False

    monkeypatch.setattr(Build, "hold", gone)
    message = r"^image 'small': layer 'base' was removed as soon as it was there; try: again$"
    work, meta = await work_for(build.store)
    with pytest.raises(BuildError, match=message):
        await build.commit(work, meta)


@pytest.mark.asyncio
async def test_layer_that_is_gone_cannot_be_held(build: Build, images: Images) -> None:
    layer = images.layer(KEY)
    assert build.store.remove(KEY)
    assert not await build.hold(layer)


@pytest.mark.asyncio
async def test_layer_differs_from_a_lock_by_the_packages_that_are_there(
    build: Build, images: Images, tmp_path: Path
) -> None:
    base = images.layer(KEY, packages={"bash": "5"})
    above = images.layer("c" * 32, [base])
    await build.compare(above.meta, above.tree, [base])  # no lock, nothing to say
    rows = [
        LockedLayer(key=key, title=key, step="", packages="other") for key in (base.key, above.key)
    ]
    locked = LockedImage(
        declared=DEBIAN.key, base="", digest="", layers=tuple(rows), packages={"bash": "4"}
    )
    lock = Lock(path=tmp_path / "lock", layout="Lab", images={"small": locked}, files={})
    strict = Build(
        image=DEBIAN,
        store=build.store,
        portal=build.portal,
        note=build.note,
        policy=Policy(lock=lock),
    )
    with pytest.raises(LockError, match=r"package bash: locked 4, now 5"):
        await strict.compare(above.meta, above.tree, [base], is_new=True)


@pytest.mark.asyncio
async def test_what_is_told_reaches_those_who_wait(build: Build) -> None:
    notes: list[str] = []
    waits = asyncio.Event()

    def note(who: str, text: str) -> None:
        notes.append(f"{who}: {text}")
        waits.set()

    waiting = Build(
        image=DEBIAN,
        store=build.store,
        portal=build.portal,
        note=note,
        policy=Policy(),
    )
    async with build.store.claims.claimed(KEY, build.waiting) as claim:
        build.tell(claim, "unpacking")

        async def second() -> None:
            async with build.store.claims.claimed(KEY, waiting.waiting):
                notes.append("mine")

        other = asyncio.create_task(second())
        await waits.wait()
        assert notes == ["small: waits for another build of it: unpacking"]
    await other
    assert notes[-1] == "mine"


@pytest.mark.asyncio
async def test_wait_for_another_build_can_be_cancelled(build: Build) -> None:
    async with build.store.claims.claimed(KEY, build.waiting):
        waits = asyncio.Event()

        async def second() -> None:
            async with build.store.claims.claimed(KEY, lambda text: waits.set()):
                raise AssertionError("two have one claim")

        other = asyncio.create_task(second())
        await waits.wait()
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
    async with build.store.claims.claimed(KEY, build.waiting):
        pass


# the bench


def test_bench_is_emptied_of_what_a_killed_build_has_left(images: Images) -> None:
    work = images.store.work(KEY)
    (work / "tree" / "etc").mkdir(parents=True)
    (work / "tree" / "etc" / "half").touch()
    (work / "agent.sock").touch()
    assert asyncio.run(emptied(work)) == work
    assert {path.name for path in work.iterdir()} == {"tree", "logs"}
    assert list((work / "tree").iterdir()) == []
    assert (work / "tree").stat().st_mode & 0o7777 == 0o755


def test_bench_has_the_same_permissions_whatever_the_umask_is(images: Images) -> None:
    before = os.umask(0o077)
    try:
        work = asyncio.run(emptied(images.store.work(KEY)))
    finally:
        os.umask(before)
    assert (work / "tree").stat().st_mode & 0o7777 == 0o755


def test_only_the_tree_becomes_a_layer(images: Images) -> None:
    work = asyncio.run(emptied(images.store.work(KEY)))
    (work / "tree" / "file").touch()
    (work / "merged" / "deep").mkdir(parents=True)
    (work / "agent.sock").touch()
    leave_only_tree(work)
    assert [path.name for path in work.iterdir()] == ["tree"]
    assert [path.name for path in (work / "tree").iterdir()] == ["file"]


def test_packages_of_a_layer_that_says_nothing_are_not_known(tmp_path: Path) -> None:
    assert packages_of(tmp_path) is None
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text("")
    assert packages_of(tmp_path) == {}


def test_tools_are_made_once_and_forbid_services(images: Images) -> None:
    folder = tools(images.store)
    policy = folder / "usr/sbin/policy-rc.d"
    assert policy.stat().st_mode & 0o777 == 0o755
    assert policy.read_text().rstrip().endswith("exit 101")
    made_at = policy.stat().st_mtime_ns
    assert tools(images.store) == folder
    assert policy.stat().st_mtime_ns == made_at
    assert "localhost" in (folder / "etc/hosts").read_text()


# what is lent


def test_python_is_that_of_the_suite(images: Images) -> None:
    release = 'ID=debian\\nVERSION_CODENAME="trixie"\\n'
    script = f"mkdir -p usr/lib; printf '{release}' > usr/lib/os-release"
    base = images.layer(KEY, script=script)
    above = images.layer("c" * 32, [base])
    image = lender_for(DEBIAN, [base, above])
    assert image == lender("trixie")
    assert image.packages == ("python3", "python3-apt")


@pytest.mark.parametrize("release", ["", "ID=alpine\n", "ID=debian\n", "nothing at all"])
def test_python_is_lent_to_a_debian_only(images: Images, release: str) -> None:
    script = f"mkdir -p usr/lib; printf '{release}' > usr/lib/os-release"
    base = images.layer(KEY, script=script)
    message = r"^image 'small': it has no Python .* only a Debian can be lent one; try: a task bef"
    with pytest.raises(BuildError, match=message):
        lender_for(DEBIAN, [base])


# messages and names


def test_full_disk_is_advised_about_and_other_errors_are_not(images: Images) -> None:
    store = images.store
    full = space_advice(OSError(errno.ENOSPC, "x"), store)
    assert full.startswith(f"\n{store.root} has ")
    assert full.endswith("another disk (CARTHAGE_IMAGES is where that store is)")
    assert space_advice(BuildError("tar: No space left on device"), store)
    assert space_advice(OSError(errno.EACCES, "x"), store) == ""


@pytest.mark.parametrize(
    ("name", "machine"),
    [
        ("web", "web"),
        ("debian for first, second", "debian-for-first--second"),
        ("localhost/team:1", "localhost-team-1"),
        ("--", "image"),
        ("ümlaut", "ümlaut"),
    ],
)
def test_image_is_called_among_machines_by_what_ansible_takes(name: str, machine: str) -> None:
    assert _machine_name(name) == machine


def test_long_names_stay_apart_and_fit_into_a_path() -> None:
    first, second = (_machine_name("ü" * 80 + end) for end in ("1", "2"))
    assert first != second
    assert all(len(name.encode()) <= 100 for name in (first, second))


def test_portal_is_not_needed_for_what_is_there(tmp_path: Path) -> None:
    """A build of an image all layers of which exist starts nothing."""
    from pytest_carthage.images import recipe
    from pytest_carthage.images.builder import ensure

    images = Images(tmp_path / "images")
    base = images.layer(recipe.base_key(DEBIAN, {}))
    portal = Portal()
    try:
        built = portal.call(
            lambda: ensure(DEBIAN, portal=portal, note=lambda who, text: None, store=images.store)
        )
    finally:
        portal.close()
    assert built.layers == (base,)
    assert images.store.is_complete(DEBIAN.key)
    assert not images.store.remove(base.key)
