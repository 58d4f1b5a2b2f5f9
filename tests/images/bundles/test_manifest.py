"""What bundles say of themselves: it may come from anybody."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import BundleError, HostError
from pytest_carthage.images.bundles.compression import compressed, compressor, decompressed
from pytest_carthage.images.bundles.manifest import (
    Foreign,
    Manifest,
    Member,
    OtherVersion,
    valid_key,
)
from pytest_carthage.images.bundles.requirements import Requirement
from pytest_carthage.images.exports.tars.sinks import write_all
from pytest_carthage.images.exports.tools import check_tools

KEY = "0123456789abcdef" * 2


def manifest() -> Manifest:
    file = Member(kind="file", size=3, sha256="5f" * 32)
    return Manifest(
        layout="Pair",
        folder="suite",
        architecture="x86_64",
        targets=("netns",),
        requires=(Requirement(name="pytest", version="8.1"),),
        images=(
            {"key": KEY, "name": "debian", "tag": None, "layers": [KEY], "config": {"env": []}},
        ),
        layers=(KEY,),
        sizes={KEY: 4096},
        members={
            "suite/tests": Member(kind="folder", mode=0o755),
            "suite/tests/run.sh": Member(kind="file", mode=0o755, size=9, sha256="a" * 64),
            "suite/tests/link": Member(kind="link", target="run.sh"),
            f"layers/{KEY}/layer.json": file,
            f"layers/{KEY}/tree.tar": file,
        },
    )


def parsed(*keys: str | int, value: Any) -> Manifest:
    """Read a manifest in which one value is another."""
    record: Any = json.loads(manifest().text)
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return Manifest.parse(json.dumps(record).encode())


def test_manifest_is_read_as_it_was_written() -> None:
    assert Manifest.parse(manifest().text.encode()) == manifest()


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("layout",), "Pair; rm", "'Pair; rm' is no name of a layout"),
        (("layout",), 7, "7 is no name of a layout"),
        (("folder",), "/etc", "'/etc' leads outside"),
        (("folder",), "a/../..", "leads outside"),
        (("layers",), ["x"], "'x' is no key"),
        (("layers",), [KEY.upper()], "is no key"),
        (("layers",), ["f" * 32], "layers/f+/layer.json is not listed"),
        (("images", 0, "key"), "../../etc", "'../../etc' is no key"),
        (("images", 0, "layers"), ["../x"], "'../x' is no key"),
        (("sizes",), {"x": 1}, "'x' is no key"),
        (("sizes", KEY), "many", "invalid literal"),
        (("members", "suite/tests", "kind"), "device", "'suite/tests' is nothing that a bundle h"),
        (("members", "etc/passwd"), {}, "kind"),
        (("members", "suite/tests/link", "target"), "/etc/passwd", "leads outside, to '/etc/passw"),
        (("members", "suite/tests", "kind"), "file", "is below 'suite/tests', which is a file"),
    ],
)
def test_value_that_leads_elsewhere_is_refused(
    keys: tuple[str | int, ...], value: Any, message: str
) -> None:
    with pytest.raises((ValueError, KeyError), match=message):
        parsed(*keys, value=value)


@pytest.mark.parametrize(
    "name", ["suite/a\0b", "suite/../x", "/suite/x", "other/x", "suite/tests/run.sh/below"]
)
def test_name_that_leads_elsewhere_is_refused(name: str) -> None:
    record = json.loads(manifest().text)
    record["members"][name] = {
        "kind": "file",
        "mode": 420,
        "size": 0,
        "sha256": "",
        "target": "",
    }
    with pytest.raises(ValueError, match=r"leads outside|nothing that a bundle has|is below"):
        Manifest.parse(json.dumps(record).encode())


def test_permission_bits_are_no_more_than_a_suite_needs() -> None:
    read = parsed("members", "suite/tests/run.sh", "mode", value=0o6777)
    assert read.members["suite/tests/run.sh"].mode == 0o755


def test_other_formats_and_versions_are_told_apart() -> None:
    with pytest.raises(Foreign):
        parsed("format", value="something else")
    with pytest.raises(OtherVersion, match=r"^its version is 2, and not 1$"):
        parsed("version", value=2)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"7", b"\xff", b"null"])
def test_garbage_is_one_of_the_errors_that_are_named(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Manifest.parse(data)


@pytest.mark.parametrize(
    "value", [None, 5, "", "0" * 31, "0" * 33, "g" * 32, "\uff10" * 32, "0" * 32 + "\n"]
)
def test_key_is_of_hexadecimal_digits(value: object) -> None:
    with pytest.raises(ValueError, match="is no key"):
        valid_key(value)


# compression


@pytest.mark.asyncio
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz"])
async def test_bytes_come_out_as_they_went_in(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"lab{suffix}"
    path.touch()
    data = b"some text\n" * 100_000
    command = compressor(path)
    if command is not None and (problems := check_tools([command[0]])):
        pytest.skip("; ".join(map(str, problems)))
    async with compressed(path, command, "a test") as out:
        await asyncio.to_thread(write_all, out, data)
    with decompressed(path) as file:
        assert file.read() == data
    if suffix != ".tar":
        assert path.stat().st_size < len(data) / 10


@pytest.mark.asyncio
async def test_compressor_that_fails_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lab.tar"
    path.touch()
    command = ["sh", "-c", "echo cannot >&2; exit 3"]
    with pytest.raises(BundleError, match=r"^a test: sh ended with status 3: cannot$"):
        async with compressed(path, command, "a test"):
            pass


@pytest.mark.asyncio
async def test_compressor_that_has_gone_is_told_and_not_the_broken_pipe(tmp_path: Path) -> None:
    path = tmp_path / "lab.tar"
    path.touch()
    command = ["sh", "-c", "exec <&-; echo no space >&2; exit 1"]
    with pytest.raises(BundleError, match=r"^a test: sh ended with status 1: no space$"):
        async with compressed(path, command, "a test") as out:
            await asyncio.to_thread(write_all, out, bytes(1 << 24))


@pytest.mark.asyncio
async def test_compressor_ends_with_an_error_of_who_feeds_it(tmp_path: Path) -> None:
    path = tmp_path / "lab.tar"
    path.touch()
    with pytest.raises(KeyError):
        async with compressed(path, ["cat"], "a test"):
            raise KeyError


def test_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_carthage.fabric.host.programs.PATH", "/nowhere")
    (tmp_path / "lab.tar.zst").touch()
    with pytest.raises(HostError, match="no zstd"), decompressed(tmp_path / "lab.tar.zst"):
        pass
