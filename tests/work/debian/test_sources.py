"""Which of the host's apt entries lead to Debian, and what else apt needs to get there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_carthage.work.debian.sources import (
    apt_options,
    default_entries,
    is_local,
    mirror_entries,
    sources_for,
    without_logins,
)


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    folder = tmp_path / "apt"
    (folder / "sources.list.d").mkdir(parents=True)
    return folder


def found(apt: Path, suite: str = "bookworm") -> str:
    return sources_for(suite, apt=apt, lists=apt / "lists")


def test_deb822_entry_is_taken_with_its_options(apt: Path) -> None:
    (apt / "sources.list.d" / "debian.sources").write_text(
        "Types: deb deb-src\n"
        "# a comment\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: bookworm bookworm-updates bookworm-backports trixie\n"
        "Components: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
        "\n"
        "Types: deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\n"
        "Components: main\n"
    )
    assert found(apt) == (
        "Types: deb\n"
        "Uris: http://mirror.example/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main\n"
        "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )


def test_one_line_entries_are_taken_with_their_options(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://mirror.example/debian bookworm main\n"
        "deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/x.gpg] "
        "http://user:secret@mirror.example/debian bookworm main contrib # ours\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb http://mirror.example/debian-security bookworm-security main\n"
    )
    assert found(apt) == (
        "Types: deb\n"
        "Uris: http://user:secret@mirror.example/debian\n"
        "Suites: bookworm\n"
        "Components: main contrib\n"
        "Architectures: amd64 arm64\n"
        "Signed-By: /usr/share/keyrings/x.gpg\n"
        "\n"
        "Types: deb\n"
        "Uris: http://mirror.example/debian-security\n"
        "Suites: bookworm-security\n"
        "Components: main\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "deb http://download.example/linux/debian bookworm stable",
        "deb http://packages.example/apt bookworm main",
        "deb http://deb.debian.org/debian trixie main",
        "deb http://deb.debian.org/debian bookworm-updates main",
        "deb cdrom:[Debian]/ bookworm main",
        "deb http://deb.debian.org/debian",
        "",
    ],
    ids=["other component", "not Debian", "other suite", "updates alone", "disc", "broken", "none"],
)
def test_entry_that_does_not_lead_to_the_suite_is_left(line: str, apt: Path) -> None:
    (apt / "sources.list").write_text(line + "\n")
    assert found(apt) == ""


def test_disabled_entries_and_other_files_are_left(apt: Path) -> None:
    entry = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: main\n"
    (apt / "sources.list.d" / "debian.sources").write_text(f"Enabled: no\n{entry}")
    (apt / "sources.list.d" / "debian.sources.old").write_text(entry)
    assert found(apt) == ""


@pytest.mark.parametrize(("origin", "taken"), [("Debian", True), ("Somebody", False)])
def test_known_origin_decides_whatever_the_mirror_is_called(
    origin: str, taken: bool, apt: Path
) -> None:
    (apt / "sources.list").write_text("deb https://me@repo.example/x/debian/ bookworm main\n")
    (apt / "lists").mkdir()
    release = apt / "lists" / "repo.example_x_debian_dists_bookworm_InRelease"
    release.write_text(f"-----BEGIN PGP SIGNED MESSAGE-----\nOrigin: {origin}\n")
    assert bool(found(apt)) is taken


def test_host_without_apt_has_no_entries(tmp_path: Path) -> None:
    assert found(tmp_path / "missing") == ""


def test_options_are_those_of_the_way_to_the_archive(
    apt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = "\n".join(
        (
            'Acquire::http::Proxy "http://proxy.example:3128";',
            'Acquire::Check-Valid-Until "false";',
            'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";',
            'Acquire::Languages:: "none";',
            'Acquire "";',
            'APT::Install-Recommends "0";',
        )
    )
    done = subprocess.CompletedProcess([], 0, stdout=dump)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    (apt / "auth.conf.d").mkdir()
    assert apt_options(apt=apt).splitlines() == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Valid-Until "false";',
        f'Dir::Etc::netrcparts "{apt}/auth.conf.d";',
    ]


def test_passwords_are_kept_out_of_addresses() -> None:
    text, logins = without_logins(
        "Types: deb\nUris: https://me:p%40ss@repo.example/debian http://open.example/debian\n"
    )
    assert text == ("Types: deb\nUris: https://repo.example/debian http://open.example/debian\n")
    assert logins == "machine https://repo.example/debian login me password p@ss\n"


@pytest.mark.parametrize("mirror", ["/srv/debian", "file:///srv/debian", "copy:/srv/debian"])
def test_folder_as_a_mirror_is_local(mirror: str) -> None:
    text = mirror_entries("bookworm", mirror)
    assert "Uris: copy:/srv/debian\nSuites: bookworm\n" in text
    assert "Trusted: yes" in text
    assert is_local(text)


def test_snapshot_as_a_mirror_may_be_old() -> None:
    text = mirror_entries("bookworm", "http://snapshot.debian.org/archive/debian/20250101T000000Z")
    assert "Check-Valid-Until: no" in text
    assert "Trusted" not in text
    assert not is_local(text)


@pytest.mark.parametrize(
    ("suite", "security"),
    [("bookworm", "bookworm-security"), ("buster", "buster/updates"), ("sid", None)],
)
def test_suite_that_the_host_does_not_have_comes_from_debian(
    suite: str, security: str | None
) -> None:
    text = default_entries(suite)
    assert f"Uris: http://deb.debian.org/debian\nSuites: {suite}\n" in text
    assert (f"Suites: {security}\n" in text) if security else ("security" not in text)
