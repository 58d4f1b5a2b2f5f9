"""Disks that are fetched from an address: once, and compared with what was declared."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import BuildError
from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.images.exports.disks.ensuring import ensure_disk
from pytest_carthage.images.policy import Policy

from .conftest import Lab
from .handmade import skip_without

pytestmark = pytest.mark.real


class _Server(http.server.ThreadingHTTPServer):
    """Serves files of a folder, and counts who asks."""

    def __init__(self, folder: Path) -> None:
        server = self
        self.asked: list[str] = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(folder))

            def log_message(self, form: str, *args: object) -> None:
                server.asked.append(self.path)

            def do_GET(self) -> None:
                if self.path != "/cut.qcow2":
                    super().do_GET()
                    return
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                self.wfile.write(b"x" * 1000)

        super().__init__(("127.0.0.1", 0), Handler)

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    with _Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def served(server: _Server, tmp_path: Path) -> Image:
    """A disk with a root file system, at an address."""
    files = tmp_path / "files"
    for name in ("bin", "usr", "etc"):
        (files / name).mkdir(parents=True)
    (files / "etc/from").write_text("afar\n")
    disk = tmp_path / "served/debian-12.qcow2"
    raw = tmp_path / "raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(files), str(raw), "20M"], check=True)
    convert = ["qemu-img", "convert", "-O", "qcow2", str(raw), str(disk)]
    subprocess.run(convert, check=True)
    digest = hashlib.sha256(disk.read_bytes()).hexdigest()
    return Image.cloud(server.address(disk.name), sha256=digest)


def test_cloud_image_is_fetched_once_and_kept(lab: Lab, server: _Server, served: Image) -> None:
    skip_without(check_tools(["disk"]))
    assert served.name == "debian-12"
    built = lab.build(served)
    (layer,) = built.layers
    assert (layer.tree / "etc/from").read_text() == "afar\n"
    disk = asyncio.run(ensure_disk(built))
    assert (disk.path, disk.format, disk.seed) == (layer.path / "disk", "qcow2", "cloud-init")
    assert hashlib.sha256(disk.path.read_bytes()).hexdigest() == served.sha256
    assert lab.build(served, Policy(offline=True)).layers == built.layers
    assert server.asked == ["/debian-12.qcow2"]
    assert "fetching 1 MiB" in " ".join(lab.notes) or "fetching 0 MiB" in " ".join(lab.notes)


@pytest.mark.parametrize(
    ("name", "digest", "said"),
    [
        ("debian-12.qcow2", "0" * 64, r"its SHA-256 is [0-9a-f]{64}, and sha256= says 0000"),
        ("other.qcow2", "0" * 64, r"it could not be fetched: HTTP Error 404: File not found; try:"),
        ("cut.qcow2", "0" * 64, r"it could not be fetched: .* of 1000000 bytes|IncompleteRead"),
    ],
)
def test_cloud_image_that_is_not_what_was_asked_for_is_told(
    lab: Lab, server: _Server, served: Image, name: str, digest: str, said: str
) -> None:
    skip_without(check_tools(["disk"]))
    image = Image.cloud(server.address(name), sha256=digest)
    with pytest.raises(BuildError, match=said) as caught:
        lab.build(image)
    assert server.address(name) in str(caught.value)
    assert lab.traces() == []


def test_cloud_image_that_is_not_there_is_not_fetched_offline(
    lab: Lab, server: _Server, served: Image
) -> None:
    skip_without(check_tools(["disk"]))
    with pytest.raises(BuildError, match=r"offline, and it is fetched from elsewhere; try: once"):
        lab.build(served, Policy(offline=True))
    assert server.asked == []


def test_address_without_a_digest_is_a_mistake() -> None:
    (mistake,) = Image.cloud("https://cloud.example/a.qcow2").mistakes
    said = str(mistake.error("image"))
    assert "what https://cloud.example/a.qcow2 leads to may change" in said
    assert "try: sha256=" in said
