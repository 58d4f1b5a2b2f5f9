"""Lists as they were when a machine asked for them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pytest_carthage.mirror.snapshot import Snapshot

PLACE = "x.example_debian_dists_"
ROWS = """\
Package: till
Architecture: all
Version: 1:2.0-1
Filename: pool/main/t/till/till_2.0-1_all.deb
Size: 7
SHA256: abc

Package: web
Architecture: amd64
Version: 3
Filename: pool/main/w/web/web_3_amd64.deb
Size: 8
SHA256: def
"""


def lists(folder: Path, suite: str, rows: str) -> str:
    """Lists of a suite; returns the hash of its packages."""
    digest = hashlib.sha256(rows.encode()).hexdigest()
    name = f"{PLACE}{suite.replace('/', '_')}_"
    (folder / f"{name}main_binary-amd64_Packages").write_text(rows)
    (folder / f"{name}InRelease").write_text(
        f"Codename: x\nSHA256:\n {digest} {len(rows)} main/binary-amd64/Packages\n"
        f" {'0' * 64}  9 main/binary-amd64/Packages.xz\n"
    )
    return digest


@pytest.mark.parametrize("suite", ["bookworm", "buster/updates"])
def test_snapshot_has_files_by_name_and_by_hash(tmp_path: Path, suite: str) -> None:
    digest = lists(tmp_path, suite, ROWS)
    lists(tmp_path, "bookworm-security", "")
    snapshot = Snapshot(tmp_path, suite)
    assert set(snapshot.by_name) == {"InRelease", "main/binary-amd64/Packages"}
    assert set(snapshot.by_hash) == {digest}
    snapshot.close()


def test_snapshot_stays_as_it_was_when_lists_are_replaced(tmp_path: Path) -> None:
    digest = lists(tmp_path, "bookworm", ROWS)
    snapshot = Snapshot(tmp_path, "bookworm")
    for path in list(tmp_path.iterdir()):  # as apt does: another file takes the name
        path.unlink()
    lists(tmp_path, "bookworm", ROWS.replace("2.0", "2.1"))
    with snapshot.by_hash[digest].opened() as file:
        assert file.read().decode() == ROWS
    assert snapshot.find("pool/main/t/till/till_2.1-1_all.deb") is None
    snapshot.close()


def test_package_is_found_by_its_path(tmp_path: Path) -> None:
    lists(tmp_path, "bookworm", ROWS)
    snapshot = Snapshot(tmp_path, "bookworm")
    till = snapshot.find("pool/main/t/till/till_2.0-1_all.deb")
    web = snapshot.find("pool/main/w/web/web_3_amd64.deb")
    assert till is not None
    assert web is not None
    assert (till.name, till.version, till.size, till.sha256) == ("till", "1:2.0-1", 7, "abc")
    assert web.file_name == "web_3_amd64.deb"
    assert snapshot.find("pool/main/w/web/web_3_amd64") is None
    snapshot.close()


def test_suite_without_lists_has_nothing(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path, "bookworm")
    assert not snapshot.by_name
    assert snapshot.find("pool/x.deb") is None
