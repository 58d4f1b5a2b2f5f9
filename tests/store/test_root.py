"""The store itself: whose it is, what may be removed from it, and what happens at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import BuildError
from pytest_carthage.fabric.host.claim import take
from pytest_carthage.store import disk
from pytest_carthage.store.built import recall
from pytest_carthage.store.disk import bytes_on_disk, delete, disk_usage, write_atomically
from pytest_carthage.store.holding import Holding, alone
from pytest_carthage.store.packages import packages_folder
from pytest_carthage.store.root import Store, images_root
from tests.images.handmade import Images
from tests.support.unprivileged import account, as_user

AS_ROOT = os.geteuid() == 0
BASE, ABOVE = "b" * 32, "c" * 32


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


# whose it is


def test_store_is_where_a_person_says_else_where_the_system_keeps_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARTHAGE_IMAGES", "mine")
    assert images_root() == tmp_path / "mine"
    monkeypatch.delenv("CARTHAGE_IMAGES")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert images_root() == Path("/var/lib/pytest-carthage/images")
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert images_root() == tmp_path / "data/pytest-carthage/images"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert images_root() == tmp_path / ".local/share/pytest-carthage/images"


def test_store_of_somebody_else_is_refused_with_what_to_do(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    message = (
        rf"^images are kept in {images.store.root}: .* belongs to user \d+, not to 1234; "
        "set CARTHAGE_IMAGES to a folder of your own$"
    )
    with pytest.raises(BuildError, match=message):
        Store(images.store.root)


def test_store_that_became_somebody_elses_is_refused_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "images")  # not there yet: nobody's
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    with pytest.raises(BuildError, match=r"belongs to user \d+, not to 1234"):
        store.prepare()


def test_store_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BuildError, match=r"^images are kept in .*/file/images: .*Not a directory"):
        Store(tmp_path / "file" / "images").prepare()


@pytest.mark.skipif(not AS_ROOT, reason="only root can make another account")
def test_store_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import sys\n"
        "from pytest_carthage.store.root import Store\n"
        "try:\n    Store(Path(sys.argv[1])).prepare()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    argv = [sys.executable, "-c", code, "/etc/carthage-images"]
    with account() as user, tempfile.TemporaryDirectory(prefix="home-") as home:
        done = subprocess.run(
            as_user(argv, home=Path(home), user=user),
            capture_output=True,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )
    assert done.stdout.strip() == (
        "BuildError images are kept in /etc/carthage-images: Permission denied; "
        "try: set CARTHAGE_IMAGES to a folder of your own"
    ), done.stderr


def test_folders_of_a_store_are_its_owners_alone(images: Images) -> None:
    store = images.store
    modes = {path.name: path.stat().st_mode & 0o777 for path in store.root.iterdir()}
    assert set(modes.values()) == {0o700}
    assert store.root.stat().st_mode & 0o777 == 0o711  # a machine's root is below it
    store.prepare()  # again: no error


def test_packages_are_kept_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARTHAGE_IMAGES", str(tmp_path / "images"))
    assert packages_folder() == tmp_path / "images" / "apt"
    assert packages_folder().is_dir()


# folders to work in


def test_scratch_folder_is_made_again_where_it_was_swept_at_once(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []

    def swept_once(path: Path, **more: bool) -> object:
        if not swept:
            swept.append(path)
            path.rmdir()
            raise FileNotFoundError
        return take(path, **more)

    monkeypatch.setattr("pytest_carthage.store.root.take", swept_once)
    path, claim = images.store.scratch("look")
    with claim:
        assert path != swept[0]
        assert path.is_dir()
    assert path.name.startswith("look-")


def test_folder_that_somebody_holds_or_that_is_a_link_is_not_taken_away(images: Images) -> None:
    store = images.store
    folder = store.folder("work") / "mine"
    folder.mkdir()
    with Holding() as holding:
        assert holding.add(folder)
        assert not store.take_away(folder)
    link = store.folder("work") / "link"
    link.symlink_to(folder)
    assert not store.take_away(link)
    assert not store.take_away(store.folder("work") / "nowhere")
    assert store.take_away(folder)
    assert [path.name for path in store.folder("work").iterdir()] == ["link"]


# two at once


def test_layer_that_one_builds_on_is_not_removed_by_another(images: Images) -> None:
    base = images.layer(BASE)
    with Holding() as holding:
        assert holding.add(base.path)
        assert not images.store.remove(BASE)
    assert images.store.remove(BASE)
    assert not images.store.remove(BASE)
    assert images.leftovers() == []


def test_removal_that_is_killed_half_way_leaves_no_layer_that_is_half_there(
    images: Images,
) -> None:
    """The layer has another name before the first of its files goes."""
    images.layer(BASE, script="for n in 1 2 3; do touch $n; done")
    code = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from pytest_carthage.store import disk, root
        store = root.Store(Path(sys.argv[1]))
        def die(path):
            print(path.name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        disk.delete = die
        store.remove(sys.argv[2])
    """)
    argv = [sys.executable, "-c", code, str(images.store.root), BASE]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert images.store.layers.get(BASE) is None
    assert not images.store.hold(BASE)
    assert images.leftovers() == [done.stdout.strip()]
    assert images.leftovers()[0].endswith(".removed")
    images.layer(BASE)  # can be made again
    assert images.store.hold(BASE)


async def held(holding: Holding, folder: Path) -> bool:
    return await holding.added(folder)


def test_hold_of_a_folder_that_is_free_needs_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: object) -> None:
        raise AssertionError("a thread was asked for")

    monkeypatch.setattr("asyncio.to_thread", refused)
    with Holding() as holding:
        assert asyncio.run(held(holding, tmp_path))
        assert asyncio.run(held(holding, tmp_path))
        assert not asyncio.run(held(holding, tmp_path / "gone"))


def test_hold_waits_for_who_looks_whether_the_folder_may_go_and_blocks_nobody(
    tmp_path: Path,
) -> None:
    async def go() -> None:
        with Holding() as holding:
            with alone(tmp_path) as is_alone:
                assert is_alone
                adding = asyncio.create_task(holding.added(tmp_path))
                for _ in range(5):
                    await asyncio.sleep(0.01)  # the loop goes on meanwhile
                assert not adding.done()
            assert await adding
            with alone(tmp_path) as is_alone:
                assert not is_alone

    asyncio.run(go())


def test_hold_that_is_cancelled_while_it_waits_is_released_with_the_others(tmp_path: Path) -> None:
    async def go() -> None:
        with Holding() as holding:
            with alone(tmp_path):
                adding = asyncio.create_task(holding.added(tmp_path))
                await asyncio.sleep(0.02)
                adding.cancel()
                await asyncio.sleep(0.02)
                assert not adding.done()  # what the thread gets has to be known
            with pytest.raises(asyncio.CancelledError):
                await adding

    asyncio.run(go())
    with alone(tmp_path) as is_alone:
        assert is_alone


def test_claim_on_work_is_free_again_when_its_owner_is_killed(images: Images) -> None:
    code = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from pytest_carthage.store.claims import Claims
        async def go():
            async with Claims(Path(sys.argv[1])).claimed("key", print) as claim:
                claim.tell("half way", "image")
                print("mine", flush=True)
                await asyncio.sleep(60)
        asyncio.run(go())
    """)
    claims = images.store.claims
    argv = [sys.executable, "-c", code, str(claims.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        with claims.if_free("key") as is_free:
            assert not is_free
        assert claims.path("key").read_text().startswith("half way\nimage\n")
        process.kill()
    with claims.if_free("key") as is_free:
        assert is_free
    assert claims.paths() == []


def test_claim_tells_nothing_when_it_is_done(images: Images) -> None:
    async def go() -> None:
        async with images.store.claims.claimed("key", print) as claim:
            claim.tell("half way", "image")

    asyncio.run(go())
    assert images.store.claims.path("key").read_text() == ""


# what is recalled


def test_image_is_recalled_with_its_layers_and_held(images: Images) -> None:
    store = images.store
    base = images.layer(BASE, packages={"bash": "5"}, config={"env": {"LANG": "C.UTF-8"}})
    above = images.layer(ABOVE, [base])
    image = replace(Image.debian("bookworm", name="web"), tag="web:1")
    store.records.keep(images.built(base, above, image=image).record(1000.0))
    (record,) = store.records
    built = recall(store, record)
    assert built.layers == (base, above)
    assert (built.image.key, built.image.name, built.image.tag) == (image.key, "web", "web:1")
    assert built.who == "image 'web'"
    assert built.packages == {"bash": "5"}
    assert built.lower == (above.tree, base.tree)
    other = Store(store.root)
    assert not other.remove(ABOVE)
    assert not other.forget(record)
    store.release()
    assert other.forget(record)
    assert other.remove(ABOVE)
    assert other.remove(BASE)


def test_image_with_a_layer_that_is_gone_cannot_be_recalled(images: Images) -> None:
    store = images.store
    base = images.layer(BASE)
    above = images.layer(ABOVE, [base])
    image = Image.debian("bookworm", name="web")
    store.records.keep(images.built(base, above, image=image).record(1000.0))
    assert store.is_complete(image.key)
    disk.delete(base.path)
    assert not store.is_complete(image.key)
    (record,) = store.records
    message = r"^image 'web' \([0-9a-f]{12}\): some of its layers are gone or damaged; try: "
    with pytest.raises(BuildError, match=message):
        recall(store, record)


# files on disk


def test_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "first")
    write_atomically(path, "second")
    assert path.read_text() == "second"
    with pytest.raises(NotADirectoryError):
        write_atomically(path / "below", "third")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = {letter * 500_000 for letter in "ab"}
    write_atomically(path, "a" * 500_000)
    ended = threading.Event()

    def write() -> None:
        for _ in range(50):
            for text in texts:
                write_atomically(path, text)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ended.is_set():
        assert path.read_text() in texts
    writer.join()


def test_size_of_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert disk_usage(tmp_path / "nowhere") == 0
    assert bytes_on_disk(tmp_path / "nowhere") == 0


def test_size_of_a_folder_is_that_of_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(10_000))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "below").write_bytes(os.urandom(50_000))
    (tmp_path / "link").symlink_to("folder/below")
    assert 10_000 <= bytes_on_disk(tmp_path) < 50_000
    assert disk_usage(tmp_path) >= 60_000


def test_folder_is_deleted_by_several_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    for number in range(300):
        (folder / str(number % 30)).mkdir(parents=True, exist_ok=True)
        (folder / str(number % 30) / str(number)).touch()
    errors: list[BaseException] = []

    def remove() -> None:
        try:
            delete(folder)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert not folder.exists()
    delete(folder)  # nothing to delete is no error
