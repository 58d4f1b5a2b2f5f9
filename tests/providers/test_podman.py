"""The podman target without podman: what the host offers, how a container is described."""

from __future__ import annotations

import dataclasses
import importlib.util
import resource
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_carthage import Image, Layout, Limits, Machine, Network
from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host import privilege, subids
from pytest_carthage.images.bases import tools
from pytest_carthage.model.image import ImageConfig
from pytest_carthage.planning import make_plan
from pytest_carthage.provider import Context, Identity, Powered, PrintsLogs, StartsFromImages
from pytest_carthage.providers.podman import PodmanMachine, PodmanProvider, host, running
from pytest_carthage.providers.podman.container import command_of, specification
from pytest_carthage.state.places import state_root
from pytest_carthage.store.root import Store, images_root


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    debian = Image.debian("bookworm")
    db = Machine(
        debian,
        links={"eth0": lan.at(".1")},
        env={"LANG": "C"},
        limits=Limits(memory_mib=64, cpus=0.5, pids=50),
    )
    init = Machine(debian, init="systemd")
    app = Machine(debian, command=["app", "--serve"])
    rights = Machine(
        debian,
        on="podman",
        privileged=True,
        capabilities=["cap_sys_nice"],
        devices="/dev/fuse:/dev/fuse:r",
    )


def having(monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
    found = {program: f"/usr/bin/{program}" for program in programs}
    monkeypatch.setattr(host, "_which", found.get)


# the host


@pytest.fixture
def groups(tmp_path: Path) -> Callable[..., Path]:
    def make(*files: str) -> Path:
        for name in files:
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("files", "programs", "runtime", "hides"),
    [
        (["cgroup.controllers"], ["crun", "runc"], "crun", False),
        (["cgroup.controllers"], ["runc"], "runc", False),
        (["memory/tasks"], ["crun"], "crun", False),
        (["memory/tasks", "unified/cgroup.procs"], ["crun", "runc"], "crun", True),
        (["memory/tasks", "unified/cgroup.procs"], ["runc"], "runc", False),
    ],
)
def test_engine_copes_with_the_hosts_control_groups(
    files: list[str],
    programs: list[str],
    runtime: str,
    hides: bool,
    groups: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    having(monkeypatch, *programs)
    root = groups(*files)
    engine = host.find_engine(root)
    assert engine is not None
    assert engine.runtime == runtime
    assert engine.hide == (root / "unified" if hides else None)
    assert tomllib.loads(engine.configuration())["engine"]["runtime"] == runtime


@pytest.mark.parametrize(
    ("hard", "files", "processes"),
    [(resource.RLIM_INFINITY, 65536, 4194304), (20000, 20000, 20000)],
)
def test_engine_asks_for_no_more_than_the_host_may_give(
    hard: int, files: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    having(monkeypatch, "crun")
    monkeypatch.setattr(resource, "getrlimit", lambda number: (1024, hard))
    engine = host.find_engine()
    assert engine is not None
    assert engine.ulimits == (f"nofile={files}:{files}", f"nproc={processes}:{processes}")


def test_host_without_anything_is_told_all_with_remedies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    having(monkeypatch)
    monkeypatch.setattr(privilege, "is_privileged", lambda: False)
    monkeypatch.setattr(privilege, "user_namespace_problems", list)
    nobodys = str(tmp_path / "subuid"), str(tmp_path / "subgid")
    monkeypatch.setattr(subids.problems, "__defaults__", (nobodys,))
    monkeypatch.setattr(subids, "missing", lambda *words: [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(host, "_file_system", lambda path: "overlay")
    monkeypatch.setattr(tools, "check_tools", lambda kinds: [])
    problems = [*PodmanProvider().check()]
    assert [str(problem).partition(";")[0] for problem in problems] == [
        f"podman: no 65536 subordinate ids for user root in {' and '.join(nobodys)}",
        "podman: no podman",
        "podman: no podman-py, the Python package 'podman'",
        f"podman: {state_root()} is itself on an overlay, where the kernel allows no second one",
        f"podman: {images_root()} is itself on an overlay, where the kernel allows no second one",
    ]
    assert all(problem.remedy for problem in problems)
    assert {name for problem in problems for name in problem.packages} == {"podman"}


def test_host_without_a_runtime_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, "podman")
    assert "neither crun nor runc" in " ".join(map(str, host.check()))
    monkeypatch.setattr(privilege, "is_privileged", lambda: False)
    having(monkeypatch, "podman", "runc")
    assert "no container runtime, which is crun without root" in " ".join(map(str, host.check()))


def test_what_needs_control_groups_is_refused_to_ordinary_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Both(Layout):
        web = Machine(Image.debian("bookworm"), init="systemd", on="podman")
        db = Machine(Image.debian("bookworm"), limits=Limits(pids=100), on="podman")
        other = Machine(Image.debian("bookworm"), init="systemd", on="netns")
        plain = Machine(Image.debian("bookworm"), on="podman")

    plan = make_plan(Both)
    assert host.refused(plan, "podman") == []
    monkeypatch.setattr(privilege, "is_privileged", lambda: False)
    assert [str(problem) for problem in host.refused(plan, "podman")] == [
        "podman: limits (of db) need control groups, which containers have only from root; "
        "try: run as root",
        "podman: systemd (of web) need control groups, which containers have only from root; "
        'try: run as root, or on="netns"',
    ]


def test_builder_is_not_needed_for_images_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "check", list)
    having(monkeypatch, "podman", "crun")
    plan = make_plan(Shop, target="podman")
    asked: list[object] = []

    def check_tools(kinds: object) -> list[Problem]:
        asked.append(kinds)
        return []

    monkeypatch.setattr(tools, "check_tools", check_tools)
    monkeypatch.setattr(Store, "is_complete", lambda self, key: True)
    assert not PodmanProvider().check(plan)
    assert asked == []
    monkeypatch.setattr(Store, "is_complete", lambda self, key: False)
    PodmanProvider().check(plan)
    assert asked == [{"debian"}]


def test_file_system_of_a_path_is_that_of_its_nearest_mount() -> None:
    assert host._file_system(Path("/proc/self")) == "proc"
    assert host._file_system(Path("/no/such/folder")) == host._file_system(Path("/"))


def test_check_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    PodmanProvider().check()
    assert not (tmp_path / "state").exists()


def test_provider_and_machine_have_the_capabilities_that_handles_look_for() -> None:
    assert isinstance(PodmanProvider(), StartsFromImages)
    for capability in (Powered, PrintsLogs):
        assert issubclass(PodmanMachine, capability)


# its containers


SILENT = ImageConfig(env=(("LANG", "C"),))


def spec_of(name: str, config: ImageConfig = SILENT, **more: bool) -> dict[str, Any]:
    plan = make_plan(Shop)
    # only names are read from it
    context = cast(
        "Context",
        type(
            "Names",
            (),
            {"identity": Identity(kind="podman", run="r1", environment="r1-shop", name="db")},
        ),
    )
    return specification(
        plan.machines[name],
        context,
        root="/run/carthage-roots/x",
        netns="/proc/1/fd/9",
        config=config,
        files={"/etc/hosts": Path("/env/db.hosts")},
        log=Path("/env/logs/db.log"),
        **more,
    )


def test_container_without_a_control_group_asks_for_none() -> None:
    spec = spec_of("app", has_control_group=False)
    assert spec["cgroups_mode"] == "disabled"
    assert "cgroup_parent" not in spec  # podman refuses both together
    assert "cgroups_mode" not in spec_of("app")


def test_container_lives_in_the_fabrics_namespace_under_our_labels() -> None:
    spec = spec_of("db")
    assert spec["netns"] == {"nsmode": "path", "value": "/proc/1/fd/9"}
    assert spec["labels"] == {
        "carthage.run": "r1",
        "carthage.environment": "r1-shop",
        "carthage.machine": "db",
    }
    assert spec["hostname"] == "db"
    assert spec["env"] == {"container": "podman", "LANG": "C"}
    assert spec["mounts"][0]["destination"] == "/etc/hosts"
    assert spec["log_configuration"] == {"driver": "k8s-file", "path": "/env/logs/db.log"}
    assert spec["cgroup_parent"].endswith("r1-shop-r1")


def test_container_is_limited_as_declared() -> None:
    assert spec_of("db")["resource_limits"] == {
        "memory": {"limit": 64 << 20},
        "cpu": {"quota": 50_000, "period": 100_000},
        "pids": {"limit": 50},
    }
    assert spec_of("app")["resource_limits"] == {}


def test_container_runs_what_is_declared_else_what_its_image_says() -> None:
    image = ImageConfig(command=("/entry", "--of-image"), user="daemon", stop_signal="SIGQUIT")
    assert spec_of("app", image)["command"] == ["app", "--serve"]
    assert spec_of("app")["entrypoint"] == []
    assert spec_of("db", image)["command"] == ["/entry", "--of-image"]
    assert (spec_of("db", image)["user"], spec_of("db", image)["stop_signal"]) == ("daemon", 3)
    assert "user" not in spec_of("init", image)
    assert "systemd" not in spec_of("app")
    booted = spec_of("init")
    assert booted["command"] == ["/sbin/init"]
    assert booted["systemd"] == "always"


def test_rights_over_the_host_are_given_as_declared() -> None:
    spec = spec_of("rights")
    assert spec["privileged"] is True
    assert {"SYS_NICE", "NET_ADMIN"} <= set(spec["cap_add"])
    assert spec["devices"] == [{"path": "/dev/fuse:/dev/fuse:r"}]
    assert spec_of("db")["privileged"] is False
    assert spec_of("db")["devices"] == []


# its logs


def test_log_is_what_was_printed_without_conmons_stamps(tmp_path: Path) -> None:
    log = tmp_path / "db.log"
    log.write_text(
        "2026-01-01T00:00:00.000000000+00:00 stdout F first\n"
        "2026-01-01T00:00:00.000000000+00:00 stderr P half and\n"
        "2026-01-01T00:00:00.000000000+00:00 stderr F  half\r\n"
        "2026-01-01T00:00:00.000000000+00:00 stdout F \n"
        "a line of something else\n"
    )
    assert running.log_of(log).text() == ("first\nhalf and half\n\na line of something else\n")
    assert running.log_of(tmp_path / "missing").text() == ""


def test_planned_machine_without_a_command_waits_in_a_shell_that_reaps() -> None:
    plan = make_plan(Shop)
    waiting = dataclasses.replace(plan.machines["app"], command=None)
    assert "trap 'exit 0' TERM" in command_of(waiting, ImageConfig())[2]
