"""What a file system says of its packages, and what apt prints of those that it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_carthage.work.debian.archive import Archive
from pytest_carthage.work.debian.cache import Cache
from pytest_carthage.work.debian.deb import Deb, printed_debs, versions_of
from pytest_carthage.work.debian.status import (
    architecture_of,
    as_installed,
    digest,
    foreign,
    installed,
    lacking,
    suite_of,
)


def paragraph(
    name: str, version: str, architecture: str = "amd64", status: str = "install ok installed"
) -> str:
    return (
        f"Package: {name}\nStatus: {status}\nArchitecture: {architecture}\nVersion: {version}\n"
        f"Description: for a test\n Version: of the text\n"
    )


STATUS = "\n".join(
    [
        paragraph("base", "1.0"),
        paragraph("dpkg", "1.22"),
        paragraph("docs", "2", "all"),
        paragraph("old", "3", status="deinstall ok config-files"),
        paragraph("held", "4", status="hold ok installed"),
        paragraph("half", "5", status="install reinstreq installed"),
        paragraph("base", "0.9", "i386"),
    ]
).encode()


def test_installed_are_those_that_dpkg_calls_so_with_the_architecture_of_a_few() -> None:
    assert installed(STATUS) == {
        "base": "1.0", "dpkg": "1.22", "docs": "2", "held": "4", "half": "5", "base:i386": "0.9",
    }  # fmt: skip
    assert installed(b"") == {}


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["base", "docs", "held", "base:amd64", "docs:amd64", "base:i386"], []),
        (["base=1.0", "base:i386=0.9"], []),
        (["old", "new", "new"], ["old", "new"]),
        (["half"], ["half"]),
        (["base=2.0", "base:arm64"], ["base=2.0", "base:arm64"]),
    ],
)
def test_lacking_are_those_that_are_not_there_in_that_version(
    names: Sequence[str], missing: list[str]
) -> None:
    assert lacking(STATUS, names, "amd64") == missing


def test_foreign_architectures_are_those_of_packages_and_of_requests() -> None:
    assert foreign(STATUS, ["tool:arm64=1", "tool:any", "base:amd64"], "amd64") == {"i386", "arm64"}
    assert foreign(b"", ["tool"], "amd64") == set()


def test_architecture_is_that_of_dpkg_itself() -> None:
    assert architecture_of(paragraph("dpkg", "1", "arm64").encode()) == "arm64"
    assert architecture_of(paragraph("base", "1", "arm64").encode()) == "amd64"


def test_packages_that_apt_shows_are_installed_in_a_status_of_them() -> None:
    shown = (
        "Package: a\nVersion: 1\nArchitecture: amd64\n\nPackage: b\nVersion: 2\nArchitecture: all\n"
    )
    assert installed(as_installed(shown)) == {"a": "1", "b": "2"}


def test_digest_is_that_of_names_versions_and_architectures_in_any_order() -> None:
    a, b = paragraph("a", "1"), paragraph("b", "2")
    one = digest(f"{a}\n{b}".encode())
    # as locks of earlier versions have it
    assert one == "sha256:8da2557ce00aa53f1babd37fcfd10a9f0ba009a9f1e05531bcd6d5fde2d03c59"
    assert digest(f"{b}\n{a}\n{paragraph('c', '3', status='purge')}".encode()) == one
    assert digest(f"{paragraph('a', '2')}\n{b}".encode()) != one
    assert digest(f"{paragraph('a', '1', 'i386')}\n{b}".encode()) != one


@pytest.mark.parametrize(
    ("release", "suite"),
    [
        ("ID=debian\nVERSION_CODENAME=bookworm\n", "bookworm"),
        ('ID=ubuntu\nVERSION_CODENAME="noble"\n', "noble"),
        ("ID=debian\nPRETTY_NAME=x\n", "sid"),
        ("ID=alpine\n", ""),
        ("", ""),
    ],
)
def test_suite_is_read_from_os_release(release: str, suite: str) -> None:
    assert suite_of(release) == suite


# what apt prints

PRINTED = """\
Reading package lists...
'http://deb.example/pool/t/tool_1.0_amd64.deb' tool_1%3a1.0-2_amd64.deb 1234 SHA256:ab12
'http://deb.example/pool/c/common_3_all.deb' common_3~rc1_all.deb 99 SHA256:cd34
'http://deb.example/x' x_1_amd64.deb 5 MD5Sum:00
"""


def test_packages_are_read_from_what_apt_prints() -> None:
    tool, common = printed_debs(PRINTED)
    assert tool == Deb(
        name="tool",
        version="1:1.0-2",
        architecture="amd64",
        url="http://deb.example/pool/t/tool_1.0_amd64.deb",
        size=1234,
        sha256="ab12",
    )
    assert (tool.request, tool.file_name) == ("tool:amd64=1:1.0-2", "tool_1%3a1.0-2_amd64.deb")
    assert (common.request, common.file_name) == ("common=3~rc1", "common_3~rc1_all.deb")
    assert versions_of([tool, common], "amd64") == {"tool": "1:1.0-2", "common": "3~rc1"}
    assert versions_of([tool, common], "i386") == {"tool:amd64": "1:1.0-2", "common": "3~rc1"}


# where it runs


def archive(
    *, architecture: str = "amd64", sources: str = "Uris: x\n", options: str = "", logins: str = ""
) -> Archive:
    return Archive(
        suite="test", architecture=architecture, sources=sources, options=options, logins=logins
    )


def test_folder_of_an_archive_is_another_one_for_other_sources_or_architectures() -> None:
    names = {archive().name, archive(sources="Uris: y\n").name, archive(architecture="i386").name}
    assert len(names) == 3
    assert all(name.startswith("test-") for name in names)
    # how it is reached, and with which password, makes no other archive
    assert archive(options='Acquire::http::Proxy "x";', logins="machine x").name == archive().name


def test_index_is_of_the_architectures_that_are_in_question(tmp_path: Path) -> None:
    cache = Cache(archive=archive(), folder=tmp_path)
    assert cache.index(["tool"]) == tmp_path / "amd64"
    assert cache.index(["tool:i386=1", "x:arm64"], STATUS) == tmp_path / "amd64+arm64+i386"


def test_folders_and_configuration_keep_to_the_cache_and_secrets_to_their_owner(
    tmp_path: Path,
) -> None:
    secret = archive(logins="machine x login y password z\n", options='Acquire::Retries "3";')
    cache = Cache(archive=secret, folder=tmp_path / "apt/test-1")
    index = cache.index(["tool:i386"])
    cache.prepare(index)
    text = (index / "apt.conf").read_text()
    assert text.startswith('Acquire::Retries "3";\n')
    assert 'APT::Architectures { "amd64"; "i386"; };' in text
    own = [line.split('"')[1] for line in text.splitlines() if line.startswith("Dir::")]
    assert {path for path in own if path and not path.startswith(str(tmp_path))} == {"/dev/null"}
    logins = tmp_path / "apt/test-1/logins/carthage.conf"
    assert logins.read_text() == "machine x login y password z\n"
    assert logins.stat().st_mode & 0o777 == 0o600
    before = (index / "apt.conf").stat().st_ino
    cache.prepare(index)
    assert (index / "apt.conf").stat().st_ino == before, "what is the same is not written again"


@pytest.mark.parametrize(
    ("offline", "is_local", "must"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_what_is_not_in_the_cache_cannot_be_had_offline_but_from_a_disk(
    tmp_path: Path, offline: bool, is_local: bool, must: bool
) -> None:
    there = Archive(suite="test", architecture="amd64", sources="", is_local=is_local)
    assert Cache(archive=there, folder=tmp_path, offline=offline).must_be_here is must
