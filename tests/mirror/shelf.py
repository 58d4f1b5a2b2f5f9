"""A small index of Python's packages and a small registry of Node's, on this host's loopback."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["served", "stock"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def stock(folder: Path, address: str) -> None:
    """Put a package ``till`` of both kinds into a folder that is served at an address."""
    wheel = folder / "files" / "till-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("till.py", "print('till 1.0')\n")
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: till\nVersion: 1.0\n"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", "till.py,,\n"),
        ):
            archive.writestr(f"till-1.0.dist-info/{name}", text)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    page = folder / "simple" / "till" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(
        f'<a href="../../files/{wheel.name}#sha256={digest}" data-dist-info-metadata="true" '
        f'data-requires-python="&gt;=3.7">{wheel.name}</a>\n'
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        data = json.dumps({"name": "till", "version": "1.0.0"}).encode()
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    (folder / "files" / "till-1.0.0.tgz").write_bytes(packed.getvalue())
    version = {
        "name": "till",
        "version": "1.0.0",
        "dist": {
            "tarball": f"{address}/files/till-1.0.0.tgz",
            "shasum": hashlib.sha1(packed.getvalue()).hexdigest(),
        },
    }
    record = {"name": "till", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (folder / "till").write_text(json.dumps(record))
