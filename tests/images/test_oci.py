"""Images as OCI images: layers, layouts, archives, podman's store, registries."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import BuildError, HostError, Problem
from pytest_carthage.fabric.host import execution
from pytest_carthage.fabric.host.programs import missing
from pytest_carthage.images.exports.oci import registry as registries
from pytest_carthage.images.exports.oci import tagging
from pytest_carthage.images.exports.oci.archive import save_archive
from pytest_carthage.images.exports.oci.blobs import diff_id
from pytest_carthage.images.exports.oci.history import history
from pytest_carthage.images.exports.oci.layout import save_layout
from pytest_carthage.images.exports.oci.registry import push
from pytest_carthage.images.exports.oci.tagging import full_name, tag
from pytest_carthage.images.exports.tools import check_tools, require
from pytest_carthage.model.image import Healthcheck, ImageConfig
from pytest_carthage.store.built import Built
from pytest_carthage.store.layer import Layer

from .handmade import ABOVE, BASE, BASE_AS_ROOT, MADE_AT, Images, look, overlaid, skip_without

pytestmark = pytest.mark.real

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return Images(tmp_path / "images")


def _base(images: Images) -> Layer:
    return images.layer("base", script=BASE + (BASE_AS_ROOT if AS_ROOT else ""))


@pytest.fixture
def built(images: Images) -> Built:
    base = _base(images)
    above = images.layer("above", [base], title="change things", script=ABOVE)
    return images.built(base, above)


def _layout(built: Built, folder: Path, *, compress: bool) -> dict[str, Any]:
    """What a saved layout says: its manifest and its configuration."""
    digest = asyncio.run(save_layout(built, folder, compress=compress))
    blobs = folder / "blobs/sha256"
    for blob in blobs.iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    assert len(list(blobs.iterdir())) == 2 + len({one["digest"] for one in manifest["layers"]})
    return {"manifest": manifest, "config": config}


def _tar_of(folder: Path, layout: dict[str, Any], number: int) -> tarfile.TarFile:
    digest = layout["manifest"]["layers"][number]["digest"].removeprefix("sha256:")
    return tarfile.open(folder / "blobs/sha256" / digest)


# layers


@pytest.mark.parametrize("compress", [False, True])
def test_layer_unpacks_to_the_same_files(images: Images, tmp_path: Path, compress: bool) -> None:
    base = _base(images)
    layout = _layout(images.built(base), tmp_path / "out", compress=compress)
    digest = layout["manifest"]["layers"][0]["digest"].removeprefix("sha256:")
    (tmp_path / "unpacked").mkdir()
    subprocess.run(
        [
            *("tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-p"),
            *("--file", str(tmp_path / "out/blobs/sha256" / digest)),
            *("--directory", str(tmp_path / "unpacked")),
            *(["-z"] if compress else []),
        ],
        check=True,
    )
    assert look(tmp_path / "unpacked") == look(base.tree)


def test_layer_tells_of_deletions(built: Built, tmp_path: Path) -> None:
    layout = _layout(built, tmp_path / "out", compress=False)
    with _tar_of(tmp_path / "out", layout, 1) as tar:
        names = tar.getnames()
        assert all(one.mtime >= 0 and not one.uname and not one.gname for one in tar)
    assert "etc/.wh.gone" in names
    assert "var/cache/.wh.old" in names
    assert "usr/bin/.wh.linked" in names
    assert names[names.index("etc/replaced") + 1] == "etc/replaced/.wh..wh..opq"
    assert "etc/replaced/above" in names
    assert "etc/keep" in names
    assert not [name for name in names if name.endswith(("gone", "below")) and ".wh." not in name]
    assert names == sorted(names, key=lambda name: [*map(os.fsencode, name.split("/"))])


def test_layer_with_a_socket_has_all_but_that(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="echo x > file")
    listener = socket.socket(socket.AF_UNIX)
    place = Path.cwd()
    try:
        os.chdir(base.tree)  # the path of a socket is short
        listener.bind("socket")
    finally:
        os.chdir(place)
        listener.close()
    layout = _layout(images.built(base), tmp_path / "out", compress=False)
    with _tar_of(tmp_path / "out", layout, 0) as tar:
        assert tar.getnames() == [".", "file"]


def test_file_that_would_delete_another_is_refused(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="mkdir etc; echo x > etc/.wh.passwd")
    with pytest.raises(BuildError, match=r"/etc/\.wh\.passwd: a file that begins with \.wh\."):
        asyncio.run(save_archive(images.built(base), tmp_path / "a.tar"))
    assert not [path for path in tmp_path.iterdir() if path.name != "images"]


@pytest.mark.skipif(not AS_ROOT, reason="trusted attributes are root's")
def test_layer_made_with_redirect_dir_is_refused(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="mkdir moved")
    os.setxattr(base.tree / "moved", "trusted.overlay.redirect", b"elsewhere")
    with pytest.raises(BuildError, match=r"/moved/: made by an overlay with redirect_dir"):
        asyncio.run(diff_id(base))


def test_diff_id_is_hashed_once(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="echo x > file")
    digest = asyncio.run(diff_id(base))
    layout = _layout(images.built(base), tmp_path / "out", compress=False)
    assert layout["config"]["rootfs"]["diff_ids"] == [digest]
    shutil.rmtree(base.tree)
    assert asyncio.run(diff_id(base)) == digest


def test_diff_id_is_of_the_epoch(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    base = images.layer("base", script="echo x > file")
    now = asyncio.run(diff_id(base))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert asyncio.run(diff_id(base)) != now
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert asyncio.run(diff_id(base)) == now


def test_epoch_that_is_no_number_is_told(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    base = images.layer("base", script="echo x > file")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BuildError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        asyncio.run(diff_id(base))


# layouts and archives


def test_configuration_says_what_the_image_says(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="echo x > file", title="base debian", command="debian x")
    task = images.layer("task", [base], title="install it")
    last = images.layer("last", [base, task], script="echo y > file", role="Server")
    image = Image.debian("bookworm", name="server").with_(
        command=["/sbin/init"],
        env={"LANG": "C.UTF-8"},
        labels={"vendor": "us"},
        user="daemon",
        workdir="/srv",
        healthcheck=Healthcheck(command=("true",), interval_s=5, timeout_s=2.5, retries=7),
    )
    layout = _layout(images.built(base, task, last, image=image), tmp_path / "out", compress=True)
    config = layout["config"]
    assert config["config"] == {
        "Cmd": ["/sbin/init"],
        "Env": ["LANG=C.UTF-8"],
        "Labels": {"vendor": "us", "carthage.image": image.key},
        "User": "daemon",
        "WorkingDir": "/srv",
        "Healthcheck": {
            "Test": ["CMD", "true"],
            "Interval": 5_000_000_000,
            "Timeout": 2_500_000_000,
            "Retries": 7,
        },
    }
    created = "2023-11-14T22:13:20Z"
    assert config["created"] == created
    # one entry for each task; the one that changed nothing is no layer
    assert config["history"] == [
        {"created": created, "created_by": "debian x", "comment": "base debian"},
        {"created": created, "created_by": "install it", "empty_layer": True},
        {"created": created, "created_by": "last"},
    ]
    assert len(config["rootfs"]["diff_ids"]) == len(layout["manifest"]["layers"]) == 2


def test_what_only_other_images_say_is_said_again(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="echo x > file", title="base debian", command="debian x")
    told = ImageConfig(
        healthcheck=Healthcheck(command=("true",), start_period_s=3),
        stop_signal="SIGQUIT",
        volumes=("/data",),
    )
    image = replace(Image.debian("bookworm"), config=told)
    layout = _layout(images.built(base, image=image), tmp_path / "out", compress=True)
    config = layout["config"]["config"]
    assert (config["StopSignal"], config["Volumes"]) == ("SIGQUIT", {"/data": {}})
    assert config["Healthcheck"]["StartPeriod"] == 3_000_000_000


def test_history_is_of_all_layers(built: Built) -> None:
    entries = history(built)
    assert [(one.key, one.title) for one in entries] == [
        ("base", "base"),
        ("above", "change things"),
    ]
    assert entries[0].made_at == MADE_AT


def test_archive_is_the_same_at_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1500000000")
    digests = set()
    for number in range(2):
        images = Images(tmp_path / f"images{number}")
        time_of = 1_600_000_000 + number
        script = f"mkdir etc; echo x > etc/file; touch -d @{time_of} etc/file etc"
        base = images.layer("base", script=script, made_at=float(time_of))
        path = tmp_path / f"{number}.tar"
        asyncio.run(save_archive(images.built(base), path))
        digests.add(path.read_bytes())
    assert len(digests) == 1
    assert b"2017-07-14T02:40:00Z" in digests.pop()


def test_archive_of_a_changed_last_layer_packs_only_that(
    images: Images, built: Built, tmp_path: Path
) -> None:
    asyncio.run(save_archive(built, tmp_path / "a.tar"))
    last = images.layer("last", built.layers, script="echo changed > etc/one")
    shutil.rmtree(built.layers[0].tree)
    notes: list[str] = []
    changed = images.built(*built.layers, last)
    asyncio.run(save_archive(changed, tmp_path / "b.tar", note=notes.append))
    assert notes == ["compressing last", "writing b.tar"]


def test_archive_is_one_that_skopeo_knows(built: Built, tmp_path: Path) -> None:
    skip_without(check_tools(["skopeo"]))
    asyncio.run(save_archive(built, tmp_path / "a.tar"))
    done = subprocess.run(
        ["skopeo", "inspect", f"oci-archive:{tmp_path}/a.tar"], capture_output=True, check=True
    )
    config = json.loads(done.stdout)
    assert config["Labels"] == {"carthage.image": built.image.key}
    assert len(config["Layers"]) == 2
    assert images_left(built) == []


def images_left(built: Built) -> list[str]:
    return sorted(path.name for path in built.store.folder("work").iterdir())


def test_layout_takes_the_place_of_an_old_one_only(built: Built, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    asyncio.run(save_layout(built, folder, compress=False))
    (folder / "old").touch()
    asyncio.run(save_layout(built, folder, compress=True))
    assert sorted(path.name for path in folder.iterdir()) == ["blobs", "index.json", "oci-layout"]
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter").touch()
    with pytest.raises(BuildError, match=r"thesis: there is something that is no image layout"):
        asyncio.run(save_layout(built, other, compress=True))
    assert [path.name for path in other.iterdir()] == ["chapter"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "thesis"]


def test_archive_in_a_folder_that_is_not_there_is_told(built: Built, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"image 'handmade': saved as .*try: make the folder"):
        asyncio.run(save_archive(built, tmp_path / "no/a.tar"))
    with pytest.raises(BuildError, match=r"is a folder; try: a file in it"):
        asyncio.run(save_archive(built, tmp_path))


_SAVE = """
import asyncio, sys
from pathlib import Path
from pytest_carthage import Image
from pytest_carthage.images.exports.oci.archive import save_archive
from pytest_carthage.store.built import Built
from pytest_carthage.store.root import Store
store = Store(Path(sys.argv[1]))
image = Image.debian("bookworm", name="handmade")
layers = tuple(store.layers.get(key) for key in sys.argv[3:])
built = Built(image=image, layers=layers, config=image.config, store=store)
asyncio.run(save_archive(built, Path(sys.argv[2])))
"""


@pytest.mark.skipif(not AS_ROOT, reason="a small disk is mounted by root")
def test_full_disk_is_told_and_leaves_nothing(images: Images, tmp_path: Path) -> None:
    base = _base(images)
    asyncio.run(save_archive(images.built(base), tmp_path / "a.tar"))
    (tmp_path / "small").mkdir()
    script = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}/small"; "$@"; ls -A "{tmp_path}/small"'
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", _SAVE),
            *(str(images.store.root), str(tmp_path / "small/a.tar"), "base"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(
        r"small/a\.tar: No space left on device\n.*small has 0 MiB free; try: ", done.stderr
    )
    assert "BuildError" in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(not AS_ROOT, reason="a small disk is mounted by root")
def test_full_store_is_told_and_leaves_nothing(images: Images, tmp_path: Path) -> None:
    base = _base(images)
    folder = base.path
    script = (
        f'mkdir "{tmp_path}/c"; mount -t tmpfs -o size=1m tmpfs "{tmp_path}/c"; '
        f'cp "{folder}/layer.json" "{tmp_path}/c/"; mkdir "{tmp_path}/c/tree"; '
        f'mount --bind "{folder}/tree" "{tmp_path}/c/tree"; '
        f'mount --rbind "{tmp_path}/c" "{folder}"; "$@"; ls -A "{folder}"'
    )
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", _SAVE),
            *(str(images.store.root), str(tmp_path / "a.tar"), "base"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No space left on device" in done.stderr
    assert "BuildError" in done.stderr
    assert done.stdout.split() == ["layer.json", "tree"]
    assert not (tmp_path / "a.tar").exists()


def test_archive_that_is_cancelled_leaves_nothing(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="head -c 300M /dev/zero > zeros")

    async def go() -> None:
        begun = asyncio.Event()
        saving = asyncio.create_task(
            save_archive(images.built(base), tmp_path / "a.tar", note=lambda text: begun.set())
        )
        await begun.wait()
        await asyncio.sleep(0.1)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving

    asyncio.run(go())
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert sorted(path.name for path in base.path.iterdir()) == ["layer.json", "tree"]


def test_what_a_killed_process_left_is_taken_over(images: Images, tmp_path: Path) -> None:
    base = images.layer("base", script="head -c 60M /dev/urandom > noise")
    process = subprocess.Popen(
        [sys.executable, "-c", _SAVE, str(images.store.root), str(tmp_path / "a.tar"), "base"]
    )
    deadline = time.monotonic() + 30
    while not (base.path / ".layer.2.tar.gz.new").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "a.tar").exists()
    asyncio.run(save_archive(images.built(base), tmp_path / "a.tar"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "images"]
    assert not list(base.path.glob(".*"))


# podman's store


class Podman:
    """A store of this test's own, which podman and skopeo use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inspect(self, reference: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = json.loads(self("image", "inspect", reference))
        return rows[0]


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Podman]:
    skip_without(check_tools(["podman", "skopeo"]))
    if not AS_ROOT:
        pytest.skip("layers of an overlay are looked at by root")
    store = Podman(tmp_path / "podman")
    store.folder.mkdir()
    conf = store.folder / "storage.conf"
    conf.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{store.root}"\n'
        f'runroot = "{store.folder}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    yield store
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if f" {store.folder}/" in line:
            subprocess.run(["umount", "--lazy", line.split()[1]], check=False)


def test_tagged_image_has_the_files_that_the_kernel_shows(
    podman: Podman, built: Built, tmp_path: Path
) -> None:
    asyncio.run(tag(built, "localhost/handmade:1"))
    mounted = Path(podman("image", "mount", "localhost/handmade:1").strip())
    try:
        facts = look(mounted)
    finally:
        podman("image", "unmount", "localhost/handmade:1")
    expected = overlaid(built, tmp_path / "merged")
    assert facts.keys() == expected.keys()
    # copied up, the other link is another file
    assert facts == expected
    assert podman.inspect("localhost/handmade:1")["Labels"] == {"carthage.image": built.image.key}
    assert images_left(built) == []


def test_tagging_anew_writes_only_what_podman_lacks(
    podman: Podman, images: Images, built: Built
) -> None:
    asyncio.run(tag(built, "handmade"))
    before = podman.inspect("localhost/handmade:latest")["Id"]
    last = images.layer("last", built.layers, script="echo changed > etc/one")
    for layer in built.layers:  # nothing of these is read again
        shutil.rmtree(layer.tree)
    changed = images.built(*built.layers, last)
    asyncio.run(tag(changed, "handmade"))
    config = podman.inspect("localhost/handmade:latest")
    assert config["RootFS"]["Layers"] == [asyncio.run(diff_id(layer)) for layer in changed.layers]
    # the image of before has lost its only name
    assert before not in str(podman("images", "--all", "--quiet", "--no-trunc"))
    # a name of its own, but the same layers
    asyncio.run(tag(changed, "other:2"))
    assert podman.inspect("localhost/other:2")["Id"] == config["Id"]


def test_tagging_again_asks_nobody(
    podman: Podman, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(tag(built, "handmade:1"))
    notes: list[str] = []
    monkeypatch.setattr(execution, "PATH", "/nowhere")
    asyncio.run(tag(built, "handmade:1", note=notes.append))
    assert notes == []


def test_tag_that_was_removed_is_given_again(podman: Podman, built: Built) -> None:
    asyncio.run(tag(built, "handmade:1"))
    podman("rmi", "localhost/handmade:1")
    asyncio.run(tag(built, "handmade:1"))
    assert podman.inspect("localhost/handmade:1")["Labels"]


def test_layers_that_podman_does_not_give_away_are_written_again(
    podman: Podman, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def everything() -> set[str]:
        return {await diff_id(layer) for layer in built.layers}

    monkeypatch.setattr(tagging, "_layers_of_others", everything)
    asyncio.run(everything())
    asyncio.run(tag(built, "handmade:1"))
    assert len(podman.inspect("localhost/handmade:1")["RootFS"]["Layers"]) == 2


def test_tag_of_a_foreign_image_is_refused(podman: Podman, built: Built, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "x.tar"), "x"], check=True)
    podman("import", "--quiet", str(tmp_path / "x.tar"), "localhost/theirs:1")
    before = podman.inspect("localhost/theirs:1")["Id"]
    with pytest.raises(BuildError) as caught:
        asyncio.run(tag(built, "theirs:1"))
    text = str(caught.value)
    assert "image 'handmade': tagged localhost/theirs:1: that name belongs to another" in text
    assert f"is of {time.strftime('%Y-%m-%d', time.gmtime())}" in text
    assert "try: another tag=" in text
    assert "podman untag localhost/theirs:1" in text
    assert podman.inspect("localhost/theirs:1")["Id"] == before


def test_tag_is_taken_over_from_an_image_of_ours(podman: Podman, images: Images) -> None:
    for number in range(2):
        base = images.layer(f"base{number}", script=f"echo {number} > file")
        asyncio.run(tag(images.built(base), "ours:1"))
    assert podman.inspect("localhost/ours:1")["RootFS"]["Layers"] == [asyncio.run(diff_id(base))]


def test_podman_heeds_the_healthcheck(podman: Podman, images: Images) -> None:
    base = images.layer("base", script="echo x > file")
    image = Image.debian("bookworm", name="healthy").with_(
        command=["/bin/server"], healthcheck=["/bin/check", "-q"], user="daemon"
    )
    asyncio.run(tag(images.built(base, image=image), "healthy:1"))
    config = podman.inspect("localhost/healthy:1")
    assert config["Healthcheck"]["Test"] == ["CMD", "/bin/check", "-q"]
    assert config["Config"]["Cmd"] == ["/bin/server"]
    assert config["User"] == "daemon"
    asyncio.run(tag(images.built(base, image=image), "healthy:1"))


def test_podman_loads_an_archive_by_the_name_of_the_image(
    podman: Podman, built: Built, tmp_path: Path
) -> None:
    asyncio.run(save_archive(built, tmp_path / "a.tar"))
    assert "localhost/handmade:latest" in podman("load", "--quiet", "-i", str(tmp_path / "a.tar"))


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("server", "localhost/server:latest"),
        ("server:1", "localhost/server:1"),
        ("team/server:1", "localhost/team/server:1"),
        ("localhost/server", "localhost/server:latest"),
        ("registry.example:5000/server", "registry.example:5000/server:latest"),
        ("registry.example/team/server:2", "registry.example/team/server:2"),
    ],
)
def test_name_is_as_podman_stores_it(given: str, full: str) -> None:
    assert full_name(given) == full


# registries


class Registry:
    """Debian's registry on the loopback interface."""

    def __init__(self, folder: Path, port: int) -> None:
        self.log = folder / "log"
        self.address = f"127.0.0.1:{port}"
        self._folder = folder
        self._port = port

    def start(self) -> subprocess.Popen[bytes]:
        config = self._folder / "config.yml"
        config.write_text(
            "version: 0.1\n"
            f"storage:\n  filesystem:\n    rootdirectory: {self._folder}/data\n"
            f"http:\n  addr: {self.address}\n"
        )
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                ["docker-registry", "serve", str(config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            assert process.poll() is None, self.log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
                return process
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def uploads(self) -> int:
        """How many blobs were sent to it."""
        return len(
            re.findall(r"http.request.method=PUT [^\n]*/blobs/uploads/", self.log.read_text())
        )

    def inspect(self, name: str) -> dict[str, Any]:
        done = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", f"docker://{self.address}/{name}"],
            capture_output=True,
            check=True,
        )
        config: dict[str, Any] = json.loads(done.stdout)
        return config


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _registry_lacks() -> list[Problem]:
    return missing("images", {"docker-registry": "docker-registry"}, "the test pushes to")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    skip_without([*check_tools(["skopeo"]), *_registry_lacks()])
    folder = tmp_path / "registry"
    folder.mkdir()
    made = Registry(folder, _free_port())
    process = made.start()
    yield made
    process.terminate()
    process.wait()


def test_push_sends_only_what_the_registry_lacks(
    registry: Registry, images: Images, built: Built
) -> None:
    asyncio.run(push(built, f"docker://{registry.address}/team/server:1"))
    config = registry.inspect("team/server:1")
    assert config["Labels"] == {"carthage.image": built.image.key}
    assert len(config["Layers"]) == 2
    assert registry.uploads() == 3  # with the configuration
    last = images.layer("last", built.layers, script="echo changed > etc/one")
    changed = images.built(*built.layers, last)
    asyncio.run(push(changed, f"docker://{registry.address}/team/server:2"))
    assert registry.uploads() == 5
    assert registry.inspect("team/server:2")["Layers"][:2] == config["Layers"]
    assert images.leftovers() == []


def test_push_of_a_healthcheck_is_in_dockers_format(registry: Registry, images: Images) -> None:
    base = images.layer("base", script="echo x > file")
    image = Image.debian("bookworm").with_(healthcheck=["true"])
    asyncio.run(push(images.built(base, image=image), f"docker://{registry.address}/h:1"))
    done = subprocess.run(
        [
            *("skopeo", "inspect", "--raw", "--tls-verify=false"),
            f"docker://{registry.address}/h:1",
        ],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["mediaType"].startswith("application/vnd.docker.distribution")


def test_push_to_where_nobody_listens_is_told(images: Images) -> None:
    skip_without(check_tools(["skopeo"]))
    base = images.layer("base", script="echo x > file")
    address = f"127.0.0.1:{_free_port()}"
    with pytest.raises(BuildError, match="connection refused") as caught:
        asyncio.run(push(images.built(base), f"docker://{address}/x:1"))
    assert str(caught.value).startswith(f"image 'handmade': pushed to docker://{address}/x:1: ")
    assert f"try: look whether {address} is the registry's address" in str(caught.value)
    assert images.leftovers() == []


@pytest.mark.parametrize("wrong", ["server:1", "docker://server", "oci:somewhere"])
def test_push_to_what_is_no_registry_is_told(images: Images, wrong: str) -> None:
    base = images.layer("base", script="echo x > file")
    with pytest.raises(BuildError, match=r"no registry's address; try: docker://HOST:PORT/NAME"):
        asyncio.run(push(images.built(base), wrong))


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost:5000", True),
        ("127.0.0.2", True),
        ("[::1]:5000", True),
        ("registry.example:5000", False),
        ("localhost.example", False),
        ("192.0.2.1:5000", False),
    ],
)
def test_only_loopback_registries_may_be_without_tls(host: str, is_loopback: bool) -> None:
    assert registries._is_loopback(host) is is_loopback


# tools


def test_missing_tools_are_told_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_carthage.fabric.host.programs.PATH", "/nowhere")
    problems = check_tools()
    assert [one.packages for one in problems] == [
        ("skopeo",),
        ("e2fsprogs",),
        ("qemu-utils",),
        ("kmod",),
    ]
    assert str(problems[0]) == (
        "images: no skopeo, which brings images to podman and to registries; "
        "try: apt-get install skopeo"
    )
    with pytest.raises(HostError, match="no skopeo"):
        require("skopeo")
