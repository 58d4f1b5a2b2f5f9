"""Every way of files in and out, and what of them survives it: one table, each cell true or named.

What is named does not survive: the reason stands beside it, and in the documentation of images.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pytest_carthage import Image, Layout, Machine
from pytest_carthage.fabric.host.privilege import user_namespace_problems
from pytest_carthage.images.bases.making import make_base
from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.images.bases.values import BaseTools
from pytest_carthage.images.bundles import unpacking
from pytest_carthage.images.bundles.manifest import Member
from pytest_carthage.images.exports.oci.archive import save_archive
from pytest_carthage.images.exports.tarball import save_tarball
from pytest_carthage.images.exports.tars.packing import pack
from pytest_carthage.images.workshop import opened
from pytest_carthage.live.machines.machine import AsyncMachine
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.store.layer import Layer
from tests.support.layouts import building, state
from tests.support.shelf import tiny_system
from tests.support.unprivileged import account, as_user

from .handmade import Images
from .ways import AS_ROOT, PROPERTIES, make, remove

__all__ = ["state"]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not AS_ROOT, reason="compares owners and devices; run as root"),
]

#: where the files are in what a way makes
PLACE = "srv/files"
#: gives the folder in which they are then
Way = Callable[["Start"], Path]


class Start:
    """Files that have all of it, in a layer, and room for a way."""

    def __init__(self, root: Path, portal: Portal) -> None:
        self.root, self.portal = root, portal
        self.images = Images(root / "images")
        self.layer: Layer = self.images.layer("b" * 32, script="mkdir -p etc srv")
        make(self.layer.tree / PLACE, as_root=AS_ROOT)

    def based(self, image: Image) -> Path:
        """Where the files are in a base of an image."""
        folder = self.root / "work"
        (folder / "tree").mkdir(parents=True)
        tools = BaseTools(note=_quiet, privileged=AS_ROOT, cache=self.root / "cache")
        asyncio.run(make_base(image, folder / "tree", tools))
        return folder / "tree" / PLACE


def _quiet(text: str) -> None:
    pass


def by_folder(start: Start) -> Path:
    return start.based(Image.rootfs(start.layer.tree))


def by_tar(name: str) -> Way:
    def go(start: Start) -> Path:
        path = start.root / name
        asyncio.run(save_tarball(start.images.built(start.layer), path))
        assert path.stat().st_blocks * 512 < 1 << 20
        return start.based(Image.rootfs(path))

    return go


def by_oci(start: Start) -> Path:
    path = start.root / "image.oci.tar"
    asyncio.run(save_archive(start.images.built(start.layer), path))
    assert path.stat().st_blocks * 512 < 1 << 20
    return start.based(Image.oci(f"oci-archive:{path}"))


def by_bundle(start: Start) -> Path:
    tree = start.root / "tree"
    tree.mkdir()
    path = start.root / "layer.tar"

    async def go() -> None:
        with path.open("wb") as out:
            packed = await pack(
                [start.layer.tree],
                out.fileno(),
                doing="a test",
                places=[],
                is_layer=True,
                sparse=True,
            )
        assert path.stat().st_size < 1 << 20
        member = Member(kind="file", size=packed.size, sha256=packed.digest.partition(":")[2])
        with path.open("rb") as file:
            await unpacking._restore(file, member, tree, "a test")

    asyncio.run(go())
    return tree / PLACE


def by_containerfile(start: Start) -> Path:
    if problems := check_tools(["containerfile"]):
        pytest.skip("; ".join(map(str, problems)))
    context = start.root / "context"
    context.mkdir()
    asyncio.run(save_tarball(start.images.built(start.layer), context / "all.tar"))
    (context / "Containerfile").write_text("FROM scratch\nADD all.tar /\n")
    return start.based(Image.containerfile(context / "Containerfile"))


def by_put(start: Start) -> Path:
    source = start.root / "source"
    make(source, as_root=AS_ROOT)
    for name in ("pipe", "device"):  # which put refuses, see below
        (source / name).unlink(missing_ok=True)
    folder = start.root / "shop"
    (folder / "tree").mkdir(parents=True)
    (folder / "logs").mkdir()

    async def go() -> None:
        async with opened(
            [start.layer.tree], folder, name="shop", who="shop", portal=start.portal
        ) as files:
            await files.put(f"{source}/", "/srv/put")

    start.portal.call(go)
    return folder / "tree/srv/put"


def by_get(start: Start) -> Path:
    target = start.root / "got"
    folder = start.root / "shop"
    (folder / "tree").mkdir(parents=True)
    (folder / "logs").mkdir()
    (target / "inner").mkdir(parents=True)

    async def go() -> None:
        async with opened(
            [start.layer.tree], folder, name="shop", who="shop", portal=start.portal
        ) as files:
            names = ["holes", "one", "two", "noted", "mode", "inner/file", "acl"]
            for name in [*names, "capable"] if AS_ROOT else names:
                await files.get(f"/{PLACE}/{name}", target / name)
            for name, kind in (("pipe", "a pipe"), ("device", "a device"), ("inner", "a folder")):
                if name == "device" and not AS_ROOT:
                    continue
                with pytest.raises(OSError, match=f"shop: get takes a file, and this is {kind}"):
                    await files.get(f"/{PLACE}/{name}", target / "special")
            status = await files.get("/proc/self/status", start.root / "status")
            assert status.read_text().startswith("Name:")  # though it has no size
            assert not (target / "special").exists()

    start.portal.call(go)
    return target


WAYS: Mapping[str, Way] = {
    "folder": by_folder,
    "tar": by_tar("image.tar"),
    "tar.gz": by_tar("image.tar.gz"),
    "OCI": by_oci,
    "bundle": by_bundle,
    "Containerfile": by_containerfile,
    "put": by_put,
    "get": by_get,
}

#: cells that are another program's: podman 4 keeps whole seconds, and no ACLs, of what it adds
THEIRS = {("Containerfile", name) for name in ("times", "times of links", "ACLs")}

_RIGHTS = "a machine gives no rights on the host"
_ONE = "get takes one file"
#: cells that do not survive, and why
NOT: Mapping[tuple[str, str], str] = {
    ("put", "devices"): "refused by name",
    ("put", "pipes"): "refused by name",
    ("put", "owners"): "all of it is root's, or of user=",
    ("get", "hard links"): _ONE,
    ("get", "links"): _ONE,
    ("get", "times of links"): _ONE,
    ("get", "times"): "of a file they do, and there is no folder",
    ("get", "attributes"): _RIGHTS,
    ("get", "capabilities"): _RIGHTS,
    ("get", "ACLs"): _RIGHTS,
    ("get", "devices"): "refused by name",
    ("get", "pipes"): "refused by name",
    ("get", "permissions"): "as far as the umask lets them, and no set-user-ID bits",
    ("get", "owners"): _RIGHTS,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path | Exception]]:
    """Each way is gone once, by the first test that wants it."""
    found: dict[str, Path | Exception] = {}
    yield found
    for path in found.values():
        if isinstance(path, Path):
            remove(path)


@pytest.fixture
def arrived(
    request: pytest.FixtureRequest,
    results: dict[str, Path | Exception],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Where the files are after a way."""
    way = request.getfixturevalue("way")
    if way not in results:
        portal = Portal()
        try:
            results[way] = WAYS[way](Start(tmp_path_factory.mktemp("way"), portal))
        except Exception as error:  # told by every cell of the way
            results[way] = error
        finally:
            portal.close()
    found = results[way]
    if isinstance(found, Exception):
        raise found
    return found


@pytest.mark.parametrize(
    ("way", "property_"),
    [(way, name) for way in WAYS for name in PROPERTIES if (way, name) not in THEIRS],
)
@pytest.mark.xdist_group("ways")
def test_files_have_it_still(way: str, property_: str, arrived: Path) -> None:
    try:
        survives = PROPERTIES[property_](arrived)
    except FileNotFoundError:
        survives = False
    assert survives == ((way, property_) not in NOT), NOT.get((way, property_), "it is lost")


def test_start_has_all_of_it(tmp_path: Path) -> None:
    make(tmp_path / "files", as_root=AS_ROOT)
    assert [name for name, has in PROPERTIES.items() if not has(tmp_path / "files")] == []


def test_what_is_missing_is_seen(tmp_path: Path) -> None:
    """No cell can be true of files that have nothing."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("holes", "one", "two", "noted", "mode", "acl", "capable", "owned", "link"):
        (folder / name).write_bytes(bytes(64 << 20) if name == "holes" else b"")
    for name in ("device", "pipe"):
        (folder / name).write_text("")
    for name in ("inner", "handed-on"):
        (folder / name).mkdir()
        (folder / name / "child").write_text("")

    def has(name: str) -> bool:
        try:
            return PROPERTIES[name](folder)
        except OSError:
            return False

    assert [name for name in PROPERTIES if has(name)] == []


# and a machine


def test_machine_sees_what_its_layers_have(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARTHAGE_IMAGES", str(tmp_path / "store"))
    root = tiny_system(tmp_path / "root", ["sh", "cat", "sleep", "stat"])
    make(root / PLACE, as_root=AS_ROOT)

    class Lab(Layout):
        box = Machine(Image.rootfs(root), links={})

    async def opened(box: AsyncMachine) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY
        _, fds = await box.channel.request("open", path=f"/{PLACE}", flags=flags)
        return fds[0]

    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}) as build,
    ):
        box = build(Lab).box
        fd = portal.call(opened, box.aio)
        try:
            # as this host's root sees it, for whom users of the machine have other numbers
            seen = {name for name, has in PROPERTIES.items() if has(Path(f"/proc/self/fd/{fd}"))}
        finally:
            os.close(fd)
        assert PROPERTIES.keys() - seen <= {"owners", "capabilities", "ACLs"}
        names = [f"/{PLACE}/{name}" for name in ("owned", "link", "device")]
        assert box.run(["stat", "--format=%u:%g %F", *names]).lines == [
            "1234:70000 regular file",
            "42:43 symbolic link",
            "0:0 character special file",
        ]


# without root

_OF_A_USER = """
import json, sys
from contextlib import closing
from pathlib import Path
from pytest_carthage.portal import Portal
from tests.images import test_ways as ways

def has(property_, folder):
    try:
        return property_(folder)
    except OSError:
        return False

found = {}
for way in sys.argv[2:]:
    (Path(sys.argv[1]) / way).mkdir()
    with closing(Portal()) as portal:
        folder = ways.WAYS[way](ways.Start(Path(sys.argv[1]) / way, portal))
    found[way] = [name for name in ways.PROPERTIES if has(ways.PROPERTIES[name], folder)]
print(json.dumps(found))
"""
#: what a user can make: who owns files, and what gives rights, is root's to say
_OF_USERS = PROPERTIES.keys() - {"owners", "capabilities", "devices", "ACLs"}


def test_what_a_user_can_have_survives_without_root() -> None:
    if problems := user_namespace_problems():
        pytest.skip("; ".join(map(str, problems)))
    ways = ["tar", "OCI", "bundle", "put"]
    with tempfile.TemporaryDirectory(prefix="ways-") as place, account() as user:
        argv = [sys.executable, "-c", _OF_A_USER, place, *ways]
        own = {"PYTHONPATH": os.pathsep.join(sys.path), "CARTHAGE_IMAGES": f"{place}/images"}
        done = subprocess.run(
            as_user(argv, home=Path(place), user=user),
            capture_output=True,
            text=True,
            check=False,
            cwd=place,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **own},
        )
        assert done.returncode == 0, done.stderr
        found = {way: set(names) for way, names in json.loads(done.stdout).items()}
    lost = {way: _OF_USERS - found[way] for way in ways}
    assert lost == {"tar": set(), "OCI": set(), "bundle": set(), "put": {"pipes"}}


# what put says


def test_put_refuses_what_is_no_file_by_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    start = Start(tmp_path / "start", Portal())
    folder = tmp_path / "shop"
    (folder / "tree").mkdir(parents=True)
    (folder / "logs").mkdir()

    async def go() -> None:
        async with opened(
            [start.layer.tree], folder, name="shop", who="shop", portal=start.portal
        ) as files:
            with pytest.raises(OSError, match="put takes files and folders, and this is a pipe"):
                await files.put(source, "/srv/put")
            (source / "pipe").unlink()
            (source / "file").write_text("x")
            (source / "link").symlink_to("file")
            await files.put(source, "/srv/mine", user="1234")

    try:
        start.portal.call(go)
    finally:
        start.portal.close()
    owners = {path.name: path.lstat().st_uid for path in (folder / "tree/srv").rglob("*")}
    assert owners["mine"] == owners["file"] == owners["link"] == 1234
