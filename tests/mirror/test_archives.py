"""Which packages of an archive a machine may have, and what it is told of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.mirror.archives import Archives
from pytest_carthage.mirror.fetching import Fetching
from pytest_carthage.mirror.message import Answer, Request
from pytest_carthage.mirror.settings import Client, Settings
from tests.work.debian.test_apt import Mirror

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


@pytest.fixture
def archive(tmp_path: Path) -> Mirror:
    if problems := [problem for problem in check_tools(["debian"]) if "apt-get" in problem.what]:
        pytest.skip("; ".join(map(str, problems)))
    made = Mirror(tmp_path / "archive")
    made.add("tool", "1:1.0", Depends="common", Recommends="extra")
    made.add("common", "3~rc1", "all")
    made.add("extra", "1.0")
    made.add("other", "1.0")
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(layout="Shop", folder=str(tmp_path / "cache"))


class Asked:
    """A machine whose image is made of a test's archive, and what it is answered."""

    def __init__(
        self, archive: Mirror, settings: Settings, allowed: Mapping[str, str] | None = None
    ) -> None:
        fetching = Fetching(folder=settings.cache, offline=settings.offline)
        self.archives = Archives(settings, fetching)
        self.archives.allow(allowed or {})
        self.client = Client(machine="web", suite="test", mirror=str(archive.root))

    def get(self, *paths: str, base: str = "http://deb.debian.org/debian") -> list[Answer | None]:
        """Ask for all of them, one after the other."""

        async def go() -> list[Answer | None]:
            requests = [Request(method="GET", url=f"{base}/{path}") for path in paths]
            return [await self.archives.answer(self.client, request) for request in requests]

        return asyncio.run(go())

    def said(self, *names: str) -> list[str]:
        """What is said of packages; of one that is served, its status."""
        answers = self.get(*(f"pool/{name}" for name in names))
        return [answer.reason or str(answer.status) for answer in answers if answer is not None]


TOOL, COMMON, EXTRA, OTHER = (
    f"{name}.deb"
    for name in ("tool_1.0_amd64", "common_3~rc1_all", "extra_1.0_amd64", "other_1.0_amd64")
)


def test_packages_of_images_may_be_had_and_others_not(archive: Mirror, settings: Settings) -> None:
    asked = Asked(archive, settings, {"tool": "1:1.0", "common:all": "3~rc1", "other": "0.9"})
    tool, common, extra, other = asked.said(TOOL, COMMON, EXTRA, OTHER)
    assert (tool, common) == ("200", "200")
    assert extra == (
        "extra 1.0 is in no image of layout Shop; try: packages = ['extra'] or \"open\" in the "
        "layout, or the package in the machine's image"
    )
    assert other.startswith("other 1.0: images of layout Shop have 0.9; try: packages = ['other']")


def test_named_package_may_be_had_with_what_it_wants(archive: Mirror, settings: Settings) -> None:
    asked = Asked(archive, replace(settings, names=["tool"]))
    tool, common, extra, other = asked.said(TOOL, COMMON, EXTRA, OTHER)
    assert (tool, common, extra) == ("200", "200", "200")
    assert "try: packages = ['tool', 'other'] or" in other


def test_one_of_several_names_that_no_archive_has_leaves_the_others(
    archive: Mirror, settings: Settings
) -> None:
    asked = Asked(archive, replace(settings, names=["gone", "other"]))
    assert asked.said(OTHER) == ["200"]


def test_open_archive_has_all_and_says_what_is_gone(archive: Mirror, settings: Settings) -> None:
    asked = Asked(archive, replace(settings, is_open=True))
    assert asked.said(OTHER, "other_0.1_amd64.deb") == [
        "200",
        "other 0.1 is no longer in the archive; try: apt-get update in the machine",
    ]


def test_lists_are_those_of_the_archive(archive: Mirror, settings: Settings) -> None:
    asked = Asked(archive, settings)
    release, packages, lost = asked.get(
        "dists/test/Release", "dists/test/main/binary-amd64/Packages", "dists/lost/InRelease"
    )
    assert release is not None
    assert packages is not None
    assert not isinstance(release.content, bytes | Path)
    assert not isinstance(packages.content, bytes | Path)
    with release.content as signed, packages.content as file:
        assert b"Codename: test\n" in signed.read()
        assert b"Package: tool\n" in file.read()
    assert lost is not None
    assert lost.reason == "Debian's archive has no lost/InRelease"


def test_address_of_others_is_none_of_the_archive(archive: Mirror, settings: Settings) -> None:
    asked = Asked(archive, settings)
    assert asked.get("dists/test/Release", base="http://apt.example/debian") == [None]
    assert asked.get("index.html") == [None]
