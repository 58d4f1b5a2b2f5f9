"""What is told before machines with images are made, of hosts that cannot have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_carthage import Image, Layout, Machine
from pytest_carthage.fabric.container import delegation, groups
from pytest_carthage.fabric.host import privilege, subids
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.plan import Plan
from pytest_carthage.providers.netns import container
from pytest_carthage.store.root import Store


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(Store, "is_complete", lambda self, key: True)
    monkeypatch.setattr(privilege, "is_privileged", lambda: True)

    class One(Layout):
        web = Machine(Image.debian("bookworm"), init="systemd")
        bare = Machine()

    return make_plan(One)


def test_host_that_can_is_told_nothing(plan: Plan) -> None:
    assert container.problems(plan, "netns") == []
    assert container.problems(plan, "other") == []


def test_user_without_subordinate_ids_is_told_so(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = tmp_path / "subuid", tmp_path / "subgid"
    for file in files:
        file.write_text("other:100000:65536\nanother:165536:65536\nroot:300000:1000\n")
    texts = str(files[0]), str(files[1])
    monkeypatch.setattr(privilege, "is_privileged", lambda: False)
    monkeypatch.setattr(subids.problems, "__defaults__", (texts,))
    told = " ".join(map(str, container.problems(plan, "netns")))
    assert f"no 65536 subordinate ids for user root in {texts[0]} and {texts[1]}" in told
    assert "usermod --add-subuids 301000-366535 --add-subgids 301000-366535 root" in told


def test_machines_with_systemd_need_a_delegated_control_group(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "is_delegated", lambda: False)
    told = " ".join(map(str, container.problems(plan, "netns")))
    assert "machines with systemd (of web) need a control group that is delegated" in told
    assert "log in to a session of systemd, which gives one; or as root, in the shell" in told


@pytest.mark.parametrize(
    ("given", "lacking"),
    [("memory pids", "controllers cpu, io"), ("cpu memory pids", "controller io"), ("io cpu", "")],
)
def test_limits_of_a_user_need_controllers_of_his_control_group(
    given: str, lacking: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cgroup.controllers").write_text(f"{given}\n")
    monkeypatch.setattr(groups, "is_unified", lambda: True)
    monkeypatch.setattr(groups, "tops", lambda: {"": str(tmp_path)})
    problems = delegation.limit_problems("netns", "small", {"cpu", "io"})
    told = " ".join(map(str, problems))
    if not lacking:
        assert not problems
        return
    assert (
        "limits= of small needs controllers cpu, io of a control group that is delegated to this"
        f" user, which lacks {lacking}; try: as root, in the shell that pytest is started from: "
    ) in told
    assert "echo '+cpu +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control; chown root " in told


def test_old_kernel_is_told_of(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.release", lambda: "5.10.0-8-amd64")
    told = " ".join(map(str, container.problems(plan, "netns")))
    assert "Linux 5.10.0-8-amd64 is older than 5.19" in told


@pytest.mark.parametrize(
    ("uids", "gids", "expected"),
    [
        ("", "", (1_000_000, 1 << 31)),
        ("me:100000:65536\n", "me:100000:65536\n", (1_000_000, 1 << 31)),
        ("root:500000:131072\n", "root:500000:131072\n", (500_000, 131_072)),
        ("root:500000:1000\n", "root:500000:1000\n", (1_000_000, 1 << 31)),
        ("root:500000:65536\n", "root:600000:65536\n", (1_000_000, 1 << 31)),
    ],
)
def test_ids_are_those_that_root_was_given_or_beyond_all_others(
    tmp_path: Path, uids: str, gids: str, expected: tuple[int, int]
) -> None:
    files = tmp_path / "subuid", tmp_path / "subgid"
    files[0].write_text(uids)
    files[1].write_text(gids)
    assert subids.of_root((str(files[0]), str(files[1]))) == expected


@pytest.mark.parametrize(
    ("gids", "expected"),
    [
        ("root:700000:65536\n", (700_000, 65536)),
        ("0:700000:65535\n", (700_000, 65535)),
        ("root:700000:200000\n", (700_000, 100_000)),
        ("root:700000:65534\n", None),
        ("other:700000:65536\n", None),
        ("root:x:65536\n", None),
    ],
)
def test_ids_of_a_user_are_his_own_and_his_subordinate_ones(
    tmp_path: Path, gids: str, expected: tuple[int, int] | None
) -> None:
    files = tmp_path / "subuid", tmp_path / "subgid"
    files[0].write_text(f"root:100000:{100_000 if '200000' in gids else 65536}\n")
    files[1].write_text(gids)
    maps = subids.of_user((str(files[0]), str(files[1])))
    if expected is None:
        assert maps is None
        return
    first, count = expected
    assert maps is not None
    assert maps.size == count + 1
    assert maps == ((0, 0, 1, 1, 100_000, count), (0, 0, 1, 1, first, count))
