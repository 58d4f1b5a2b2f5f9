"""Packages from outside: what is missing, which versions, from a cache, with messages that help."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import BuildError
from pytest_carthage.images.bases.debian import simulate
from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.work.debian.apt import Apt
from pytest_carthage.work.debian.archive import Archive, native_architecture
from pytest_carthage.work.debian.deb import Deb
from tests.support.host import host_cache

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

ARCHITECTURE = "amd64"
STATUS = """\
Package: base
Status: install ok installed
Architecture: amd64
Version: 1.0

Package: left
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""


@pytest.fixture(autouse=True)
def _has_apt() -> None:
    problems = [problem for problem in check_tools(["debian"]) if "apt-get" in problem.what]
    if problems:
        pytest.skip("; ".join(map(str, problems)))


class Mirror:
    """An archive of this test's own, in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: dict[str, list[str]] = {}

    def add(self, name: str, version: str, architecture: str = ARCHITECTURE, **fields: str) -> Path:
        """Add a package; fields with underscores for hyphens."""
        file = f"{name}_{version.rpartition(':')[2]}_{architecture}"  # as in Debian's pool
        source = self.root / "source" / file
        (source / "DEBIAN").mkdir(parents=True)
        told = {
            "Package": name,
            "Version": version,
            "Architecture": architecture,
            "Maintainer": "Nobody <nobody@localhost>",
            "Description": "for a test",
            **{field.replace("_", "-"): value for field, value in fields.items()},
        }
        control = "".join(f"{field}: {value}\n" for field, value in told.items())
        (source / "DEBIAN" / "control").write_text(control)
        path = self.root / "pool" / f"{file}.deb"
        path.parent.mkdir(exist_ok=True)
        build = ["dpkg-deb", "--root-owner-group", "--build", str(source), str(path)]
        subprocess.run(build, check=True, capture_output=True)
        data = path.read_bytes()
        told = {"Filename": f"pool/{path.name}", "Size": str(len(data))}
        told["SHA256"] = hashlib.sha256(data).hexdigest()
        control += "".join(f"{field}: {value}\n" for field, value in told.items())
        for one in ("amd64", "i386"):
            if architecture in (one, "all"):
                self.rows.setdefault(one, []).append(control)
        self.publish()
        return path

    def publish(self) -> None:
        sums = []
        for one in ("amd64", "i386"):
            path = self.root / "dists" / "test" / "main" / f"binary-{one}" / "Packages"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(self.rows.get(one, [])))
            data = path.read_bytes()
            name = f"main/binary-{one}/Packages"
            sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
        (self.root / "dists" / "test" / "Release").write_text(
            "Origin: Test\nSuite: test\nCodename: test\nArchitectures: amd64 i386\n"
            "Components: main\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n" + "\n".join(sums)
        )


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    made = Mirror(tmp_path / "mirror")
    made.add("base", "2.0")
    made.add("tool", "1:1.0", Depends="base, common", Recommends="extra")
    made.add("tool", "1:0.9", Depends="base, common")
    made.add("tool", "1:1.0", "i386", Depends="common")
    made.add("common", "3~rc1", "all", Multi_Arch="foreign")
    made.add("extra", "1.0")
    made.add("enemy", "1.0", Conflicts="common")
    return made


@pytest.fixture
def apt(mirror: Mirror, tmp_path: Path) -> Apt:
    return made(mirror, tmp_path)


def made(mirror: Mirror, tmp_path: Path) -> Apt:
    return Apt.of(archive(mirror), tmp_path / "apt")


def archive(mirror: Mirror, suite: str = "test") -> Archive:
    return Archive.of(suite=suite, architecture=ARCHITECTURE, mirror=str(mirror.root))


def resolve(apt: Apt, *names: str, status: str = STATUS) -> list[str]:
    debs = asyncio.run(apt.resolve(status.encode(), names, note=lambda text: None))
    return sorted(deb.request for deb in debs)


def get(apt: Apt, *names: str, status: str = STATUS) -> tuple[list[Deb], list[Path]]:
    return asyncio.run(apt.get(status.encode(), names, note=lambda text: None))


def test_missing_packages_come_with_what_they_depend_on_alone(apt: Apt) -> None:
    assert resolve(apt, "tool") == ["common=3~rc1", "tool:amd64=1:1.0"]


def test_what_is_installed_is_neither_fetched_nor_upgraded(apt: Apt) -> None:
    assert resolve(apt, "base") == []
    assert not apt.cache.folder.exists(), "nothing had to be looked up"
    assert resolve(apt, "base", "base:amd64", "extra") == ["extra:amd64=1.0"]


def test_removed_package_with_configuration_is_missing(mirror: Mirror, apt: Apt) -> None:
    mirror.add("left", "1.0")
    assert resolve(apt, "left") == ["left:amd64=1.0"]


def test_version_is_the_one_that_was_asked_for(apt: Apt) -> None:
    assert "tool:amd64=1:0.9" in resolve(apt, "tool=1:0.9")
    assert resolve(apt, "base=2.0") == ["base:amd64=2.0"]
    assert resolve(apt, "base=1.0") == []


def test_older_version_than_the_installed_one_is_taken_if_asked_for(apt: Apt) -> None:
    newer = STATUS.replace("1.0", "9.0")
    assert resolve(apt, "base=2.0", status=newer) == ["base:amd64=2.0"]


def test_architecture_is_the_one_that_was_asked_for(apt: Apt) -> None:
    assert resolve(apt, "tool:i386") == ["common=3~rc1", "tool:i386=1:1.0"]
    assert resolve(apt, "base:amd64") == []
    both = resolve(apt, "tool:i386=1:1.0", "extra:amd64")
    assert both == ["common=3~rc1", "extra:amd64=1.0", "tool:i386=1:1.0"]


def test_package_is_told_as_its_file_says(apt: Apt, mirror: Mirror) -> None:
    (deb,), (path,) = get(apt, "common")
    assert (deb.name, deb.version, deb.architecture) == ("common", "3~rc1", "all")
    data = (mirror.root / "pool" / "common_3~rc1_all.deb").read_bytes()
    assert (deb.size, deb.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert path.read_bytes() == data
    assert path.name == deb.file_name


def test_version_with_an_epoch_has_a_file_that_dpkg_reads(apt: Apt) -> None:
    debs, paths = get(apt, "tool")
    deb, path = next(pair for pair in zip(debs, paths, strict=True) if pair[0].name == "tool")
    assert deb.version == "1:1.0"
    show = ["dpkg-deb", "--show", str(path)]
    told = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    assert told.split() == ["tool", "1:1.0"]


def test_package_that_does_not_exist_is_told_with_similar_ones(apt: Apt) -> None:
    with pytest.raises(BuildError, match=r"no package 'extar'; similar ones .*: extra; try: ") as e:
        resolve(apt, "extar", "nowhere")
    assert "no package 'nowhere'; try: a package other than 'nowhere'" in str(e.value)
    assert str(e.value).startswith("packages of Debian test (amd64): ")


def test_version_that_does_not_exist_is_told_with_those_that_do(apt: Apt) -> None:
    with pytest.raises(BuildError, match=r"no version '7' of 'tool'; it has 1:1.0, 1:0.9; try: "):
        resolve(apt, "tool=7")


def test_conflict_is_told_with_what_apt_says(apt: Apt) -> None:
    with pytest.raises(BuildError, match=r"(?s)cannot install tool, enemy;.*Conflicts: common"):
        resolve(apt, "tool", "enemy")


def test_file_is_fetched_once_and_kept(apt: Apt, mirror: Mirror) -> None:
    _, (path,) = get(apt, "extra")
    before = path.stat().st_ino
    (mirror.root / "pool" / "extra_1.0_amd64.deb").unlink()
    _, (again,) = get(apt, "extra")
    assert again.stat().st_ino == before
    assert sorted(one.suffix for one in path.parent.iterdir()) == [".deb"]


def test_damaged_file_in_the_cache_is_fetched_again(apt: Apt) -> None:
    (deb,), (path,) = get(apt, "extra")
    path.write_bytes(b"half")
    _, (again,) = get(apt, "extra")
    assert again.stat().st_size == deb.size


def test_version_that_has_gone_is_resolved_again(apt: Apt, mirror: Mirror) -> None:
    resolve(apt, "extra")
    (mirror.root / "pool" / "extra_1.0_amd64.deb").unlink()
    mirror.rows["amd64"] = [row for row in mirror.rows["amd64"] if "Package: extra" not in row]
    mirror.add("extra", "1.1")
    (deb,), _ = get(apt, "extra")
    assert deb.version == "1.1"


def test_file_that_is_listed_and_not_there_is_told(apt: Apt, mirror: Mirror) -> None:
    (mirror.root / "pool" / "extra_1.0_amd64.deb").unlink()
    with pytest.raises(BuildError, match=r"(?s)no longer to be had: extra:amd64=1.0;.*try: again"):
        get(apt, "extra")


def test_file_with_other_contents_than_listed_is_refused(apt: Apt, mirror: Mirror) -> None:
    path = mirror.root / "pool" / "extra_1.0_amd64.deb"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BuildError, match=r"Hash Sum mismatch|no longer to be had"):
        get(apt, "extra")
    assert not list((apt.cache.folder / "archives").glob("extra*"))


def updates(apt: Apt) -> float:
    return (apt.cache.folder / "amd64" / "updated").stat().st_mtime


def test_lists_are_fetched_again_when_they_are_an_hour_old(apt: Apt) -> None:
    resolve(apt, "extra")
    fresh = updates(apt)
    resolve(apt, "extra")
    assert updates(apt) == fresh
    old = time.time() - 3601
    os.utime(apt.cache.folder / "amd64" / "updated", (old, old))
    resolve(apt, "extra")
    assert updates(apt) > old + 3000


def test_lists_that_cannot_be_updated_are_used_as_they_are(apt: Apt, mirror: Mirror) -> None:
    resolve(apt, "extra")
    old = time.time() - 3601
    os.utime(apt.cache.folder / "amd64" / "updated", (old, old))
    (mirror.root / "dists").rename(mirror.root / "away")
    notes: list[str] = []
    debs = asyncio.run(apt.resolve(STATUS.encode(), ["extra"], note=notes.append))
    assert [deb.name for deb in debs] == ["extra"]
    assert any("could not be updated, older ones are used" in note for note in notes)


def test_suite_that_the_mirror_lacks_is_told(mirror: Mirror, tmp_path: Path) -> None:
    lost = Apt.of(archive(mirror, "lost"), tmp_path / "apt")
    with pytest.raises(BuildError, match=r"(?s)lists of Debian lost .*the mirrors have no 'lost'"):
        resolve(lost, "extra")


def test_many_at_once_share_one_cache(apt: Apt) -> None:
    async def go() -> list[tuple[list[Deb], list[Path]]]:
        asked = (apt.get(STATUS.encode(), ["tool"], note=lambda text: None) for _ in range(4))
        return await asyncio.gather(*asked)

    results = asyncio.run(go())
    assert all(result == results[0] for result in results)
    assert {path.name for path in (apt.cache.folder / "archives").iterdir()} == {
        path.name for path in results[0][1]
    }


# offline: an archive in a folder is none that could be out of reach


@pytest.fixture
def far(mirror: Mirror, tmp_path: Path) -> Apt:
    """The cache of a mirror that cannot be reached any more."""
    near = made(mirror, tmp_path)
    get(near, "extra")
    # as if it had come from a network: what it is of is part of no file in it
    return Apt.of(replace(near.archive, is_local=False), tmp_path / "apt", offline=True)


def test_offline_the_cache_is_enough(far: Apt) -> None:
    (deb,), (path,) = get(far, "extra")
    assert (deb.request, path.exists()) == ("extra:amd64=1.0", True)


def test_offline_missing_files_are_named(far: Apt) -> None:
    with pytest.raises(
        BuildError, match=r"offline, and not in the cache: common=3~rc1, tool:amd64"
    ):
        get(far, "tool")


def test_offline_missing_lists_are_named(far: Apt, tmp_path: Path) -> None:
    with pytest.raises(
        BuildError, match=r"(?s)offline, and there are no package lists.*Suites: te"
    ):
        resolve(far, "tool:i386")


def test_offline_lists_are_used_however_old(far: Apt) -> None:
    os.utime(far.cache.folder / "amd64" / "updated", (0, 0))
    assert resolve(far, "extra") == ["extra:amd64=1.0"]
    assert updates(far) == 0


def test_offline_nothing_that_is_started_has_a_network(
    far: Apt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text(
        f'#!/bin/sh\nreadlink /proc/self/ns/net >> {seen}\nexec /usr/bin/apt-get "$@"\n'
    )
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setattr("pytest_carthage.fabric.host.execution.PATH", f"{programs}:/usr/bin:/bin")
    resolve(far, "extra")
    own = str(Path("/proc/self/ns/net").readlink())
    assert seen.read_text().split()
    assert own not in seen.read_text()


# the host's own state, and secrets


def test_hosts_own_lists_are_not_touched(apt: Apt) -> None:
    def state() -> list[tuple[str, int]]:
        folders = (Path("/var/lib/apt/lists"), Path("/var/cache/apt/archives"))
        return [(str(p), p.stat().st_mtime_ns) for f in folders for p in sorted(f.glob("*"))]

    before = state()
    get(apt, "tool")
    assert state() == before


def test_real_base_can_be_told_before_it_is_made() -> None:
    hello = Image.debian("bookworm", packages=["hello"])
    versions = asyncio.run(simulate(hello, host_cache()))
    assert {"apt", "base-files", "dpkg", "hello", "tzdata"} <= set(versions)
    assert "systemd" not in versions
    assert native_architecture() not in "".join(versions)
