"""What is removed of images, and what never: also while others build, look and remove."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from pytest_carthage.store import garbage
from pytest_carthage.store.garbage import collect
from pytest_carthage.store.holding import Holding
from pytest_carthage.store.outcomes import Outcome
from pytest_carthage.store.removed import Removed
from pytest_carthage.store.root import Store
from pytest_carthage.store.users import building, users_of
from tests.support.shelf import DAY_S, Shelf, key_of

MONTH_S = 30 * DAY_S


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "images")


def kinds(removed: list[Removed]) -> list[tuple[str, str]]:
    return [(row.kind, row.name.partition(" (")[0]) for row in removed]


# what is old


def test_images_that_were_not_used_go_with_layers_that_no_other_needs(shelf: Shelf) -> None:
    base = shelf.layer("base")
    web = shelf.layer("web", base, kib=64)
    db = shelf.layer("db", base)
    shelf.image("web", base, web, days=40)
    shelf.image("db", base, db, days=20)
    removed = collect(shelf.store, older_than_s=MONTH_S)
    assert kinds(removed) == [("image", "web"), ("layer", "web")]
    assert removed[1].size >= 64 * 1024
    assert shelf.titles() == {"base", "db"}
    assert shelf.names() == ["db"]
    assert collect(shelf.store, older_than_s=MONTH_S) == []


def test_layers_that_nobody_names_go_the_top_first(shelf: Shelf) -> None:
    base = shelf.layer("base")
    lower = shelf.layer("lower", base)
    shelf.layer("upper", lower)
    shelf.image("plain", base)
    assert kinds(collect(shelf.store, older_than_s=MONTH_S)) == [
        ("layer", "upper"),
        ("layer", "lower"),
    ]
    assert shelf.titles() == {"base"}


def test_dry_run_tells_the_same_and_removes_nothing(shelf: Shelf) -> None:
    base = shelf.layer("base")
    web = shelf.layer("web", base)
    shelf.layer("stray", base)
    shelf.image("web", base, web, days=40)
    shelf.broken("ruin", base, days=40)
    (shelf.store.folder("work") / key_of("dead")).mkdir()
    removable = collect(shelf.store, older_than_s=MONTH_S, dry_run=True)
    assert shelf.titles() == {"base", "web", "stray"}
    assert shelf.names() == ["web"]
    assert [build.name for build in shelf.store.broken] == ["ruin"]
    done = collect(shelf.store, older_than_s=MONTH_S)
    assert set(kinds(removable)) == set(kinds(done))
    assert shelf.titles() == set()


def test_image_that_was_used_meanwhile_stays(shelf: Shelf) -> None:
    base = shelf.layer("base")
    old = shelf.image("web", base, days=40)
    shelf.image("web", base)
    assert not shelf.store.forget(old)
    assert shelf.names() == ["web"]


# what is in use


def test_image_that_somebody_uses_stays_with_its_name(shelf: Shelf) -> None:
    base = shelf.layer("base")
    web = shelf.layer("web", base)
    shelf.image("web", base, web, days=40)
    other = Store(shelf.store.root)
    assert other.hold(web.key)
    assert [user.pid for user in users_of(shelf.store, web.key)] == [os.getpid()]
    assert collect(shelf.store, older_than_s=MONTH_S, dry_run=True) == []
    assert collect(shelf.store, older_than_s=MONTH_S) == []
    assert shelf.names() == ["web"]
    other.release()
    assert users_of(shelf.store, web.key) == []
    assert kinds(collect(shelf.store, older_than_s=MONTH_S)) == [
        ("image", "web"),
        ("layer", "web"),
        ("layer", "base"),
    ]


def test_store_that_is_forgotten_holds_nothing(shelf: Shelf) -> None:
    base = shelf.layer("base")
    other = Store(shelf.store.root)
    assert other.hold(base.key)
    del other
    assert users_of(shelf.store, base.key) == []


def test_layer_on_which_another_stands_is_not_removed(shelf: Shelf) -> None:
    base = shelf.layer("base")
    top = shelf.layer("top", base)
    assert not shelf.store.remove(base.key)
    assert shelf.store.remove(top.key)
    assert shelf.store.remove(base.key)
    assert not shelf.store.remove(base.key)
    assert list(shelf.store.folder("work").iterdir()) == []


def test_layer_that_an_image_has_on_top_is_not_removed(shelf: Shelf) -> None:
    base = shelf.layer("base")
    record = shelf.image("web", base)
    assert not shelf.store.remove(base.key)
    assert shelf.store.forget(record)
    assert shelf.store.remove(base.key)


def test_layer_that_was_removed_cannot_be_held(shelf: Shelf) -> None:
    base = shelf.layer("base")
    assert shelf.store.remove(base.key)
    assert not shelf.store.hold(base.key)
    assert not shelf.store.hold("0" * 32)


def test_layer_that_was_made_anew_is_not_the_one_that_was_looked_at(shelf: Shelf) -> None:
    base = shelf.layer("base")
    with shelf.store.layers.alone(base.key) as is_alone:
        assert is_alone
        waiting = threading.Thread(target=shelf.store.hold, args=[base.key])
        waiting.start()
        inode = f":{base.path.stat().st_ino} "
        deadline = time.monotonic() + 10
        while not any(
            "->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines()
        ):
            assert time.monotonic() < deadline
        base.path.rename(shelf.store.folder("work") / "away.removed")
        again = shelf.layer("base")
    waiting.join()
    # held is what is there now
    assert not shelf.store.remove(again.key)
    shelf.store.release()
    assert shelf.store.remove(again.key)


# broken builds


def test_broken_builds_go_by_age_with_the_layers_below(shelf: Shelf) -> None:
    base = shelf.layer("base")
    young = shelf.layer("young", base)
    old = shelf.layer("old", base)
    shelf.broken("ruin", base, young, days=1)
    shelf.broken("wreck", base, old, days=40)
    assert kinds(collect(shelf.store, older_than_s=MONTH_S)) == [
        ("broken build", "wreck"),
        ("layer", "old"),
    ]
    assert shelf.titles() == {"base", "young"}


def test_broken_build_that_somebody_looks_into_stays(shelf: Shelf) -> None:
    path = shelf.broken("wreck", days=40)
    other = Holding()
    assert other.add(path)
    (broken,) = shelf.store.broken
    assert collect(shelf.store, older_than_s=MONTH_S) == []
    assert garbage.remove_broken(shelf.store, broken) is None
    other.release()
    assert garbage.remove_broken(shelf.store, broken) is not None
    assert not path.exists()


def test_broken_build_that_says_nothing_of_itself_goes_by_its_age(shelf: Shelf) -> None:
    path = shelf.broken("wreck")
    (path / "broken.json").write_text("{")
    assert collect(shelf.store, older_than_s=MONTH_S) == []
    then = time.time() - 40 * DAY_S
    os.utime(path, (then, then))
    assert kinds(collect(shelf.store, older_than_s=MONTH_S)) == [("broken build", "wreck")]


# what dead builds have left


def test_work_of_a_build_that_goes_on_stays_until_it_is_dead(shelf: Shelf) -> None:
    key = key_of("step")
    work = shelf.store.folder("work") / key
    work.mkdir()

    async def build() -> None:
        async with shelf.store.claims.claimed(key, print) as claim:
            claim.tell("install nginx", "web")
            (build,) = building(shelf.store)
            assert (build.image, build.text) == ("web", "install nginx")
            assert build.pid == os.getpid()
            assert await asyncio.to_thread(collect, shelf.store, older_than_s=MONTH_S) == []
            assert work.is_dir()

    asyncio.run(build())
    assert building(shelf.store) == []
    assert kinds(collect(shelf.store, older_than_s=MONTH_S)) == [("work folder", key)]
    assert list(shelf.store.folder("locks").iterdir()) == []


def test_scratch_folder_stays_while_its_owner_lives(shelf: Shelf) -> None:
    path, claim = shelf.store.scratch("look")
    assert collect(shelf.store, older_than_s=MONTH_S) == []
    claim.release()
    assert kinds(collect(shelf.store, older_than_s=MONTH_S)) == [("work folder", path.name)]
    assert not path.exists()


def test_folder_of_somebody_who_claims_nothing_is_left_alone_for_an_hour(shelf: Shelf) -> None:
    path = shelf.store.folder("work") / "unpacked"
    path.mkdir()
    assert collect(shelf.store, older_than_s=MONTH_S) == []
    then = time.time() - 7200
    os.utime(path, (then, then))
    assert kinds(collect(shelf.store, older_than_s=MONTH_S)) == [("work folder", "unpacked")]


def test_what_a_killed_removal_has_left_goes(shelf: Shelf) -> None:
    base = shelf.layer("base")
    base.path.rename(shelf.store.folder("work") / f"{base.key}.aa.removed")
    assert [row.kind for row in collect(shelf.store, older_than_s=MONTH_S)] == ["work folder"]
    assert list(shelf.store.folder("work").iterdir()) == []


def test_damaged_layer_goes(shelf: Shelf) -> None:
    base = shelf.layer("base")
    (base.path / "layer.json").write_text("{")
    assert kinds(collect(shelf.store, older_than_s=MONTH_S)) == [("layer", "damaged")]
    assert not base.path.exists()


def test_outcomes_that_are_gone_are_forgotten(shelf: Shelf) -> None:
    base = shelf.layer("base")
    gone = shelf.layer("gone", base)
    shelf.image("plain", base)
    shelf.store.outcomes.add("a" * 32, {"x": "1"}, base.key)
    shelf.store.outcomes.add("a" * 32, {"x": "2"}, gone.key)
    shelf.store.outcomes.add("b" * 32, {}, gone.key)
    collect(shelf.store, older_than_s=MONTH_S)
    assert list(shelf.store.outcomes.of("a" * 32)) == [Outcome(inputs={"x": "1"}, layer=base.key)]
    assert [path.name for path in shelf.store.folder("results").iterdir()] == [f"{'a' * 32}.json"]


# packages


def test_packages_that_were_not_used_go(shelf: Shelf) -> None:
    apt = shelf.store.folder("apt")
    then = time.time() - 40 * DAY_S
    for suite, age in (("bookworm-1", then), ("trixie-1", None)):
        (apt / suite / "archives").mkdir(parents=True)
        for name in ("archives.lock", "archives/a.deb", "archives/b.deb"):
            (apt / suite / name).write_text("x")
            if age is not None or name.endswith("a.deb"):
                os.utime(apt / suite / name, (then, then))
        os.utime(apt / suite / "archives", (then, then))
    assert kinds(collect(shelf.store, older_than_s=MONTH_S)) == [
        ("packages", "bookworm-1"),
        ("packages", "1 archives of trixie-1"),
    ]
    assert sorted(path.name for path in apt.rglob("*.deb")) == ["b.deb"]


# at the same time


def test_claim_that_is_removed_while_others_wait_is_still_one_claim(shelf: Shelf) -> None:
    inside: list[int] = []
    most: list[int] = []

    async def build(number: int) -> None:
        async with shelf.store.claims.claimed("step", lambda text: None):
            inside.append(number)
            most.append(len(inside))
            await asyncio.sleep(0.02)
            inside.remove(number)

    async def sweep() -> None:
        for _ in range(100):
            await asyncio.to_thread(collect, shelf.store, older_than_s=MONTH_S)

    async def all_() -> None:
        await asyncio.gather(sweep(), *map(build, range(12)))

    asyncio.run(all_())
    assert most == [1] * 12


_SWEEP = """
import sys
from pathlib import Path
from pytest_carthage.store.garbage import collect
from pytest_carthage.store.root import Store
print("ready", flush=True)
while not Path(sys.argv[2]).exists():
    collect(Store(Path(sys.argv[1])), older_than_s=0.001)
"""

_BUILD = """
import asyncio, sys, os
from pathlib import Path
from pytest_carthage import Image
from pytest_carthage.images.builder import ensure
from pytest_carthage.store.root import Store
from pytest_carthage.portal import Portal
from suite import image

portal = Portal()
for turn in range(int(sys.argv[2])):
    store = Store(Path(sys.argv[1]))
    Path("number.txt").write_text(str(turn % 3)) if sys.argv[3] == "0" else None
    built = portal.call(lambda: ensure(image, portal=portal, note=lambda *told: None, store=store))
    for layer in built.layers:
        assert any(layer.tree.iterdir()), layer
    assert store.layers.chain(built.layers[-1].key) is not None
portal.close()
print("fine")
"""

_SUITE = """
from pytest_carthage import File, Image
image = Image.rootfs("system", name="tiny").with_(
    File("a.txt", "/a"), File("number.txt", "/number"), File("b.txt", "/b")
)
"""


@pytest.mark.real
def test_builds_while_others_sweep_have_all_their_layers(shelf: Shelf, tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    (suite / "system/etc").mkdir(parents=True)
    (suite / "system/etc/hostname").write_text("tiny\n")
    for name in ("a.txt", "b.txt", "number.txt"):
        (suite / name).write_text(name)
    (suite / "suite.py").write_text(textwrap.dedent(_SUITE))
    end = tmp_path / "end"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(suite), *sys.path])}

    def start(code: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(shelf.store.root), *words],
            cwd=suite,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    sweepers = [start(_SWEEP, str(end)) for _ in range(2)]
    try:
        for sweeper in sweepers:
            assert sweeper.stdout is not None
            assert sweeper.stdout.readline() == "ready\n"
        builders = [start(_BUILD, "12", str(number)) for number in range(2)]
        printed = [builder.communicate(timeout=100) for builder in builders]
    finally:
        end.touch()
        left = [sweeper.communicate(timeout=20) for sweeper in sweepers]
    assert [out for out, _ in printed] == ["fine\n", "fine\n"], printed
    assert [err for _, err in left] == ["", ""]
    collect(shelf.store, older_than_s=0.001)
    assert shelf.titles() == set()
    assert list(shelf.store.folder("work").iterdir()) == []
