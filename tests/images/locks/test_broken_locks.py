"""Locks that somebody has damaged, merged badly, or wrote by hand."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import LockError
from pytest_carthage.images.locks.comparison import advice, check_layer, listed
from pytest_carthage.images.locks.digests import base_digest, short, states, versions_digest
from pytest_carthage.images.locks.files import located, package_of
from pytest_carthage.images.locks.finding import find_for_image
from pytest_carthage.images.locks.lock import NAME, Ansible, Lock, LockedImage, LockedLayer
from pytest_carthage.store.layer import LayerMeta
from tests.images.handmade import Images

DEBIAN = Image.debian("bookworm", name="debian")


def make(path: Path, image: Image = DEBIAN, *, layout: str = "Pair") -> Lock:
    """A lock of one image, which has no packages."""
    layer = LockedLayer(key="b" * 32, title="base", step="", packages="")
    locked = LockedImage(
        declared=image.key, base="debian bookworm", digest="", layers=(layer,), packages={}
    )
    return Lock(path=path, layout=layout, images={"debian": locked}, files={"a": "5f" * 32})


def change(lock: Lock, *keys: str | int, value: Any = None, drop: bool = False) -> None:
    """Write a lock with one value changed or dropped."""
    record = json.loads(lock.text)
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    if drop:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    lock.path.write_text(json.dumps(record))


LAYERS = ("images", "debian", "layers")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("images",), []),
        (("images", "debian"), "text"),
        (("images", "debian", "declared"), 7),
        (("images", "debian", "base"), "debian"),
        (("images", "debian", "base", "digest"), None),
        (("images", "debian", "packages"), {"bash": 5}),
        (LAYERS, {}),
        (LAYERS, []),
        ((*LAYERS, 0), {"key": "b" * 32}),
        ((*LAYERS, 0, "title"), ["base"]),
        ((*LAYERS, 0, "size"), "a field of nobody"),
        (("files",), ["a"]),
        (("files", "a"), None),
        (("ansible",), "2.17"),
        (("ansible",), {"version": "2.17", "collections": {"a.b": 1}}),
        (("ansible",), {"version": 2.17, "collections": {}}),
        (("layout",), None),
    ],
)
def test_value_of_another_kind_is_damage(
    tmp_path: Path, keys: tuple[str | int, ...], value: Any
) -> None:
    lock = make(tmp_path / NAME)
    change(lock, *keys, value=value)
    message = rf"^lock {lock.path}: it is damaged \(\w+Error: .*\); try: pytest-carthage lock LAYOU"
    with pytest.raises(LockError, match=message):
        Lock.load(lock.path)


@pytest.mark.parametrize("key", ["images", "files", "ansible", "layout"])
def test_value_that_is_missing_is_damage(tmp_path: Path, key: str) -> None:
    lock = make(tmp_path / NAME)
    change(lock, key, drop=True)
    with pytest.raises(LockError, match=rf"it is damaged \(KeyError: '{key}'\); try: .* anew$"):
        Lock.load(lock.path)


def test_image_without_layers_is_damage(tmp_path: Path) -> None:
    lock = make(tmp_path / NAME)
    change(lock, *LAYERS, value=[])
    with pytest.raises(LockError, match=r"it is damaged \(ValueError: an image without layers\)"):
        Lock.load(lock.path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff\xfe garbage",
        b"[" * 200_000,
        b"<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> other\n",
        '{"version": 1}'.encode("utf-16"),
    ],
    ids=["empty", "binary", "deep", "conflict", "utf-16"],
)
def test_garbage_is_damage_and_no_traceback(tmp_path: Path, data: bytes) -> None:
    (tmp_path / NAME).write_bytes(data)
    message = (
        rf"^lock {tmp_path / NAME}: it is damaged \(.*\); try: pytest-carthage lock LAYOUT, wh"
    )
    with pytest.raises(LockError, match=message):
        Lock.load(tmp_path / NAME)


def test_lock_that_is_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=rf"^lock {tmp_path}: Is a directory$"):
        Lock.load(tmp_path)


def test_lock_that_cannot_be_replaced_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = make(tmp_path / NAME)
    lock.save()
    before = lock.path.read_text()

    def refuse(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)  # a disk may say so only now
    with pytest.raises(
        LockError, match=rf"^lock {lock.path}: it cannot be written: No space left on device$"
    ):
        lock.save()
    assert lock.path.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_text_is_read_as_it_was_written_and_in_order(tmp_path: Path) -> None:
    lock = make(tmp_path / NAME)
    ansible = Ansible(version="2.17", collections={"z.z": "1", "a.a": "2"})
    full = Lock(
        path=lock.path,
        layout="Päir",
        images={"z": lock.images["debian"], "a": lock.images["debian"]},
        files={"z": "1", "a": "2"},
        ansible=ansible,
    )
    full.save()
    assert Lock.load(full.path) == full
    record = json.loads(full.text)
    assert list(record["images"]) == ["a", "z"]
    assert list(record["files"]) == ["a", "z"]
    assert list(record["ansible"]["collections"]) == ["a.a", "z.z"]
    assert "Päir" in full.text


# finding


def test_lock_of_an_image_is_the_one_that_has_it(tmp_path: Path) -> None:
    trixie = Image.debian("trixie", name="trixie")
    make(tmp_path / "first.lock").save()
    make(tmp_path / "second.lock", trixie).save()
    names = ["first.lock", "second.lock"]
    assert find_for_image(trixie, names, folder=tmp_path, places=[]).path.name == "second.lock"
    other = Image.debian("sid", name="sid")
    message = r"^image 'sid' \(.*\): the lock .*/first\.lock of layout 'Pair' has no image that is"
    with pytest.raises(LockError, match=message):
        find_for_image(other, names, folder=tmp_path, places=[])


def test_lock_that_was_named_and_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=rf"^lock {tmp_path}/no\.lock: there is none; try: "):
        find_for_image(DEBIAN, ["no.lock"], folder=tmp_path, places=[tmp_path])


def test_lock_that_is_nowhere_is_told_with_where_it_was_looked_for(tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path]
    message = rf"^image 'debian': there is no {NAME} in {tmp_path}/a or above; try: pytest-carthage"
    with pytest.raises(LockError, match=message):
        find_for_image(DEBIAN, [], folder=tmp_path, places=[*places, *places])


def test_nearest_lock_counts_even_if_it_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / NAME).write_text("{")
    make(tmp_path / NAME).save()
    with pytest.raises(LockError, match=r"/near/carthage\.lock: it is damaged"):
        find_for_image(DEBIAN, [], folder=tmp_path, places=[tmp_path / "near", tmp_path])


# comparing


def test_layer_that_the_lock_does_not_know_is_refused_by_its_image(tmp_path: Path) -> None:
    lock = make(tmp_path / NAME)
    meta = LayerMeta(key="c" * 32, parent="b" * 32, kind="task", title="above")
    other = Image.debian("trixie", name="other")
    with pytest.raises(LockError, match=r"^image 'other' .* has no image that is declared like it"):
        check_layer(lock, other, 0, meta, tmp_path, {}, is_new=True)
    # more layers than were locked, of an image that is: its key says the same
    check_layer(lock, DEBIAN, 1, meta, tmp_path, {}, is_new=True)


@pytest.mark.parametrize(
    ("is_new", "state", "remedy"),
    [
        (True, "was built, and is not kept", "try: `pytest-carthage lock` again"),
        (False, "is in the store", "try: `pytest-carthage images rm debian` to have it built anew"),
    ],
)
def test_refusal_says_whether_the_layer_is_kept(
    tmp_path: Path, is_new: bool, state: str, remedy: str
) -> None:
    lock = make(tmp_path / NAME)
    meta = LayerMeta(key="b" * 32, parent=None, kind="base", title="base", digest="sha256:5f")
    with pytest.raises(LockError) as caught:
        check_layer(lock, DEBIAN, 0, meta, tmp_path, {}, is_new=is_new)
    text = str(caught.value)
    assert f"its layer 'base' {state}, and differs from the lock {lock.path}:\n" in text
    assert "  base: locked nothing, now sha256:5f\n" in text
    assert remedy in text
    assert "snapshot" not in text  # no package differs


def test_differences_are_each_told_once() -> None:
    assert listed(["b", "a", "b"]) == "  a\n  b"
    assert "snapshot.debian.org" in advice(["image 'x': package y: locked 1, now 2"])


# digests


def test_digest_of_versions_is_of_all_of_them_in_any_order() -> None:
    assert versions_digest({}) == ""
    packages = {"bash": "5.2", "curl": "7"}
    assert versions_digest(packages) == versions_digest(dict(reversed(packages.items())))
    for other in ({"bash": "5.2"}, {"bash": "5.2", "curl": "8"}, {"bash": "5.2", "curl2": "7"}):
        assert versions_digest(other) != versions_digest(packages)


def test_digest_of_a_base_is_what_it_says_or_that_of_its_packages(tmp_path: Path) -> None:
    images = Images(tmp_path / "images")
    status = "Package: bash\nStatus: install ok installed\nVersion: 5\nArchitecture: amd64\n"
    script = f"mkdir -p var/lib/dpkg; printf '%s' '{status}' > var/lib/dpkg/status"
    debian = images.layer("d" * 32, script=script)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", base_digest(debian.meta, debian.tree))
    other = images.layer("e" * 32, digest="sha256:5f")
    assert base_digest(other.meta, other.tree) == "sha256:5f"
    nothing = images.layer("f" * 32)
    assert base_digest(nothing.meta, nothing.tree) == ""
    assert short("sha256:0123456789abcdef") == "sha256:0123456789ab"
    assert (short("0123456789abcdef"), short("")) == ("0123456789ab", "nothing")


def test_packages_of_a_layer_are_those_of_the_last_that_says_so(tmp_path: Path) -> None:
    images = Images(tmp_path / "images")
    base = images.layer("a" * 32, packages={"bash": "5"})
    task = images.layer("b" * 32, [base])
    more = images.layer("c" * 32, [base, task], packages={"bash": "5", "curl": "7"})
    assert list(states([task, base, task, more])) == [
        {},
        {"bash": "5"},
        {"bash": "5"},
        {"bash": "5", "curl": "7"},
    ]


# files by name


def test_file_of_a_package_that_is_not_here_is_looked_for_in_the_folder(tmp_path: Path) -> None:
    import pytest_carthage

    folder = Path(pytest_carthage.__file__).parent
    assert located("pytest_carthage:events.py", tmp_path) == folder / "events.py"
    assert located("no_such_package:events.py", tmp_path) == tmp_path / "no_such_package:events.py"
    assert located("a b:c", tmp_path) == tmp_path / "a b:c"
    assert package_of(folder / "images" / "builder.py") == folder
    assert package_of(tmp_path / "file") is None
