"""Files of compose as layouts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_carthage import Condition, HostError, Image, Layout, LayoutError, Limits
from pytest_carthage.labs.compose import read_compose
from pytest_carthage.labs.lab import Here
from pytest_carthage.planning import make_plan
from tests.labs.conftest import SHOP

DEBIAN = Image.debian("bookworm", name="debian")
IMAGES = {"shop/web:1": DEBIAN, "shop/db:1": DEBIAN}


def written(folder: Path, text: str) -> Path:
    path = folder / "compose.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def shop() -> type[Layout]:
    with pytest.warns(UserWarning, match=r"service 'db': secrets is not"):
        return Layout.from_compose(SHOP, images=IMAGES)


def test_services_are_containers_in_their_networks(shop: type[Layout]) -> None:
    plan = make_plan(shop)
    assert list(plan.machines) == ["db", "web"]
    assert {machine.target for machine in plan.machines.values()} == {"podman"}
    assert [str(link.address) for link in plan.machines["web"].links] == [
        "172.16.0.1/24",
        "10.9.0.10/24",
    ]
    web = shop.machines()["web"]
    assert web.command == ("sh", "-c", "cp /srv/www/index.html /srv/served; exec sleep 1000")
    assert dict(web.env) == {"SITE": "corner"}
    assert web.restart == "on-failure"
    assert web.limits == Limits(memory_mib=256)
    assert plan.machines["web"].after == ("db",)


def test_what_is_not_taken_is_listed_with_its_line(shop: type[Layout]) -> None:
    assert [str(remark) for remark in shop.not_taken] == [
        "compose.yaml:17: service 'web': no port of this host leads to it, but while"
        " web.forward(80) does",
        "compose.yaml:26: service 'db': names store are not taken: there is one a link",
        "compose.yaml:29: service 'db': secrets is not understood",
    ]


def test_healthcheck_is_the_images_on_podman_and_awaited_elsewhere(shop: type[Layout]) -> None:
    image = shop.machines()["db"].image
    assert image is not None
    assert image.config.healthcheck is not None
    assert image.config.healthcheck.command == ("test", "-e", "/srv/ready")
    assert (image.config.healthcheck.interval_s, image.config.healthcheck.retries) == (1.0, 30)
    with pytest.warns(UserWarning, match="not all of it"):
        inside = Layout.from_compose(SHOP, images=IMAGES, on=None)
    assert inside.machines()["db"].wait_for == (Condition("command", "test -e /srv/ready"),)
    assert inside.machines()["db"].on is None


def test_variables_are_those_of_the_file_beside_it_and_not_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the host")
    (tmp_path / ".env").write_text("NAME=corner\n# x\n")
    path = written(
        tmp_path,
        "# $SECRET\nservices:\n  a:\n    image: x\n    environment:\n      A: ${NAME}\n"
        "      B: ${OTHER:-default}\n      C: $$HOME\n      D: ${SECRET}\n      E:\n",
    )
    with pytest.warns(UserWarning, match=r"compose\.yaml:9: \$SECRET is in no \.env beside it"):
        made = Layout.from_compose(path, images={"x": None}, on=None)
    assert dict(made.machines()["a"].env) == {
        "A": "corner",
        "B": "default",
        "C": "$HOME",
        "D": "",
        "E": "",
    }
    assert [str(remark) for remark in made.not_taken] == [
        "compose.yaml:5: service 'a': E has no value: the environment is not taken over",
        "compose.yaml:9: $SECRET is in no .env beside it, and empty: the environment is not taken"
        " over",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("networks: {}\n", "there are no services; declared at .*compose.yaml:1"),
        ("services:\n  a: {}\n", r"service 'a': it has neither image nor build; .*yaml:2"),
        (
            "services:\n  a:\n    image: x\n    depends_on: [b]\n",
            r"service 'a': there is no service 'b'; declared at .*yaml:4; try: one of a",
        ),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
            r"service 'b': a needs b needs a; declared at .*yaml:3",
        ),
        (
            "services:\n  a:\n    image: x\n    networks: [front]\n",
            r"service 'a': there is no network 'front'; declared at .*yaml:4; try: one of none",
        ),
        (
            "services:\n  a:\n    image: x\n    volumes: [./no:/x]\n",
            r"service 'a': there is no \./no in .*; declared at .*yaml:4",
        ),
        (
            "services:\n  a:\n    image: x\n    healthcheck: {test: a, interval: soon}\n",
            r"service 'a': interval 'soon' is no duration; declared at .*yaml:4",
        ),
    ],
)
def test_mistake_is_told_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        Layout.from_compose(written(tmp_path, text), images={"x": None}, on=None)


def test_command_is_given_to_the_entry_point_of_its_image(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "services:\n  a: {image: db, command: -c size=3}\n"
        "  b: {image: db, entrypoint: /init, command: [go]}\n  c: {image: other, command: x}\n",
    )
    known = {"docker.io/library/db:latest": ("entry.sh", "db")}
    lab = read_compose(path, Here(images={"other": None}, entry_points=known.get), on=None)
    commands = {
        name: member.written.kwargs.get("command")
        for name, member in lab.members.items()
        if member.kind == "Machine"
    }
    assert commands == {"a": ["entry.sh", "db", "-c", "size=3"], "b": ["/init", "go"], "c": ["x"]}
    assert lab.remarks == []
    strange = read_compose(path, Here(), on=None)
    assert [str(remark) for remark in strange.remarks] == [
        f"compose.yaml:{line}: service '{name}': the entry point of its image is not known, and the"
        " command stands for that, too"
        for line, name in ((2, "a"), (4, "c"))
    ]


def test_files_of_variables_are_read_and_missed_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("export A='1'\n# B=2\nC=3\n")
    text = "services:\n  a:\n    image: x\n    env_file: [x.env]\n    environment: {C: 4}\n"
    made = Layout.from_compose(written(tmp_path, text), images={"x": None}, on=None)
    assert dict(made.machines()["a"].env) == {"A": "1", "C": "4"}
    (tmp_path / "x.env").unlink()
    with pytest.raises(LayoutError, match=r"service 'a': x\.env in .*: No such file.*yaml:4"):
        Layout.from_compose(written(tmp_path, text), images={"x": None}, on=None)


def test_yaml_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(
        HostError, match=r"YAML, which takes PyYAML; try: pip install 'pytest-carth"
    ):
        Layout.from_compose(written(tmp_path, "services: {a: {image: x}}\n"))


def test_service_with_a_hyphen_is_a_member_and_keeps_its_host_name(tmp_path: Path) -> None:
    path = written(tmp_path, "services:\n  my-db: {image: x}\n  plan: {image: x}\n")
    made = Layout.from_compose(path, images={"x": None}, on=None)
    plan = make_plan(made)
    assert [(one.name, one.hostname) for one in plan.machines.values()] == [
        ("my_db", "my-db"),
        ("plan_", "plan"),
    ]
