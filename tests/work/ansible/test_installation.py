"""The Ansible of this host: where it is, what it is called with, without starting a play."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.errors import AnsibleError, HostError
from pytest_carthage.handles.playbook import PlaybookResult, TaskResult
from pytest_carthage.model.keys.inputs import Inputs
from pytest_carthage.work.ansible import installation
from pytest_carthage.work.ansible.installation import (
    collections,
    find_config,
    find_program,
    make_env,
    program_version,
)
from pytest_carthage.work.ansible.task import _is_plain, _remember, _role_of, apply


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An interpreter without Ansible beside it, and a PATH of one folder."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    program_version.cache_clear()
    yield tmp_path
    program_version.cache_clear()


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs this."""
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        monkeypatch.delenv(name)


# the program


def test_program_beside_the_interpreter_comes_first(elsewhere: Path) -> None:
    on_path = script(elsewhere / "bin/ansible-playbook", "exit 0")
    assert find_program() == str(on_path)
    beside = script(elsewhere / "venv/bin/ansible-playbook", "exit 0")
    assert find_program() == str(beside)
    beside.chmod(0o644)
    assert find_program() == str(on_path)


def test_host_without_the_program_is_told_how_to_get_it(elsewhere: Path) -> None:
    message = rf"no ansible-playbook in {elsewhere}/venv/bin or on PATH; try: pip install 'pytest-"
    with pytest.raises(HostError, match=message):
        find_program()
    assert program_version() == ""
    assert collections(elsewhere) == {}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("echo 'ansible-playbook [core 2.17.1]'", "2.17.1"),
        ("echo 'ansible-playbook [core 2.19.0b2] (devel)'", "2.19.0b2"),
        ("echo nothing", ""),
        ("echo broken >&2; exit 1", ""),
    ],
)
def test_version_is_what_the_program_says(elsewhere: Path, text: str, version: str) -> None:
    script(elsewhere / "bin/ansible-playbook", text)
    assert program_version() == version


def test_collections_are_those_of_the_first_place(elsewhere: Path) -> None:
    script(elsewhere / "bin/ansible-playbook", "exit 0")
    places = {
        "/home/me/collections": {"a.b": {"version": "2"}, "c.d": {"version": "1"}},
        "/usr/share/collections": {"a.b": {"version": "1"}, "e.f": {"version": "3"}},
        "/usr/lib/ansible/_internal/x": {"g.h": {"version": "9"}},
    }
    script(elsewhere / "bin/ansible-galaxy", f"echo '{json.dumps(places)}'")
    assert collections(elsewhere) == {"a.b": "2", "c.d": "1", "e.f": "3"}


@pytest.mark.parametrize("text", ["exit 5", "echo 'ERROR! none'", "echo '[]'", "echo '{\"x\": 1}'"])
def test_collections_that_are_not_told_are_none(elsewhere: Path, text: str) -> None:
    script(elsewhere / "bin/ansible-playbook", "exit 0")
    script(elsewhere / "bin/ansible-galaxy", text)
    assert collections(elsewhere) == {}


# the configuration of a tree


def test_configuration_is_the_nearest_above(tmp_path: Path) -> None:
    playbook = tmp_path / "production/plays/site.yml"
    playbook.parent.mkdir(parents=True)
    config = tmp_path / "production/ansible.cfg"
    config.touch()
    assert find_config(playbook) == (config, config.parent)
    nearer = playbook.parent / "ansible.cfg"
    nearer.touch()
    assert find_config(playbook) == (nearer, playbook.parent)


def test_configuration_that_everybody_can_write_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").touch()
    open_to_all = tmp_path / "shared"
    open_to_all.mkdir()
    (open_to_all / "ansible.cfg").touch()
    open_to_all.chmod(0o777)
    assert find_config(open_to_all / "site.yml") == (tmp_path / "ansible.cfg", tmp_path)


def test_configuration_above_a_repository_is_not_of_it(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").touch()
    repository = tmp_path / "repository"
    (repository / ".git").mkdir(parents=True)
    assert find_config(repository / "site.yml") == (None, repository)


def test_configuration_that_a_person_chose_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ansible.cfg").touch()
    monkeypatch.setenv("ANSIBLE_CONFIG", str(tmp_path / "mine.cfg"))
    assert find_config(tmp_path / "site.yml") == (tmp_path / "mine.cfg", tmp_path)


# the environment


def test_environment_has_our_plugins_last_and_no_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    env = make_env(None, tmp_path, machines=3)
    for kind in ("callback", "connection", "inventory", "vars"):
        last = Path(env[f"ANSIBLE_{kind.upper()}_PLUGINS"].split(":")[-1])
        assert last.is_dir()
        assert last.name == kind
    assert env["ANSIBLE_VARS_ENABLED"] == "host_group_vars,carthage_layout"
    assert (env["ANSIBLE_ASK_PASS"], env["ANSIBLE_BECOME_ASK_PASS"]) == ("0", "0")
    assert env["ANSIBLE_FORKS"] == "5"
    assert Path(env["ANSIBLE_LOCAL_TEMP"]).is_dir()
    # a home that is not there would be made by Ansible
    assert env["HOME"] == str(tmp_path)
    assert env["ANSIBLE_HOME"] == str(tmp_path / "home")
    assert env["ANSIBLE_INVENTORY_ENABLED"] == (
        "carthage_inventory,host_list,script,auto,yaml,ini,toml"
    )


def test_environment_keeps_what_a_tree_says(tmp_path: Path) -> None:
    config = tmp_path / "tree/ansible.cfg"
    config.parent.mkdir()
    config.write_text(
        "[defaults]\nforks = 7 ; many\nvars_plugins_enabled = mine\n"
        "callback_plugins = plugins/one:/two\n[inventory]\nenable_plugins = ini, script\n"
    )
    env = make_env(config, tmp_path, machines=100)
    assert env["ANSIBLE_CONFIG"] == str(config)
    assert "ANSIBLE_FORKS" not in env  # the tree's own
    assert env["ANSIBLE_VARS_ENABLED"] == "mine,carthage_layout"
    assert env["ANSIBLE_CALLBACK_PLUGINS"].startswith(f"{config.parent}/plugins/one:/two:")
    assert env["ANSIBLE_INVENTORY_ENABLED"] == "carthage_inventory,ini, script"


@pytest.mark.parametrize("data", [b"[defaults\nforks", b"\xff\xfe", b"no section = 1\n"])
def test_configuration_that_is_wrong_is_ansibles_to_complain_of(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "ansible.cfg").write_bytes(data)
    env = make_env(tmp_path / "ansible.cfg", tmp_path, machines=3)
    assert env["ANSIBLE_CONFIG"] == str(tmp_path / "ansible.cfg")
    assert env["ANSIBLE_FORKS"] == "5"


@pytest.mark.parametrize(("machines", "forks"), [(1, 5), (20, 20), (10_000, 50)])
def test_as_many_at_once_as_there_are_machines(
    tmp_path: Path, machines: int, forks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "_MOST_FORKS", 50)
    assert make_env(None, tmp_path, machines)["ANSIBLE_FORKS"] == str(forks)
    monkeypatch.setenv("ANSIBLE_FORKS", "2")
    assert make_env(None, tmp_path, machines)["ANSIBLE_FORKS"] == "2"


# what a task remembers of a play


class Target:
    name = "web"
    who = "image 'web'"

    def source(self, path: str | Path) -> Path:
        raise AssertionError(path)

    async def ansible_environment(self) -> object:
        raise AssertionError("nothing is to be asked of it")


@pytest.mark.asyncio
@pytest.mark.parametrize("given", [{}, {"playbook": "a.yml", "role": "roles/web"}])
async def test_either_a_playbook_or_a_role_is_applied(given: dict[str, str]) -> None:
    options = {"playbook": None, "role": None, **given}
    message = r"^image 'web': try: ansible\('site\.yml'\), or ansible\(role='roles/web'\)$"
    with pytest.raises(AnsibleError, match=message):
        await apply(
            Target(),  # type: ignore[arg-type]
            variables={},
            inputs=None,
            near=[],
            extra_vars=None,
            tags=None,
            outside=(),
            timeout_s=1.0,
            **options,
        )


def result(playbook: Path, *paths: str, reads: frozenset[Path] = frozenset()) -> PlaybookResult:
    fields = PlaybookResult.__dataclass_fields__
    given = {
        "playbook": playbook,
        "log": playbook.parent / "logs/play/ansible.log",
        "tasks": tuple(_task(path) for path in paths),
        "reads": reads,
    }
    made = object.__new__(PlaybookResult)
    for name in fields:
        object.__setattr__(made, name, given.get(name))
    return made


def _task(path: str) -> TaskResult:
    made = object.__new__(TaskResult)
    for name in TaskResult.__dataclass_fields__:
        object.__setattr__(made, name, path if name == "path" else None)
    return made


def test_play_is_remembered_by_its_roles_and_what_lies_beside_it(tmp_path: Path) -> None:
    tree = tmp_path / "production"
    role = tree / "roles/web"
    (role / "tasks").mkdir(parents=True)
    (role / "tasks/main.yml").write_text("- debug:\n")
    (tree / "group_vars").mkdir()
    (tree / "group_vars/all.yml").write_text("a: 1\n")
    playbook = tree / "site.yml"
    playbook.write_text("- hosts: all\n")
    (tree / "extra.txt").write_text("x")
    foreign = tmp_path / "site-packages/module.py"
    foreign.parent.mkdir()
    foreign.write_text("")
    inputs = Inputs(tmp_path)
    reads = frozenset({playbook, tree / "extra.txt", foreign, Path("/etc/hostname")})
    _remember(inputs, [], playbook, result(playbook, "roles/web/tasks/main.yml:1", reads=reads))
    inputs.settle()
    names = {name for name, content in inputs.found.items() if content}
    assert names == {"production/roles/web", "production/group_vars", "production/extra.txt"}
    # what is not there would count if it were
    assert inputs.found["production/host_vars"] == ""


def test_role_is_remembered_whole(tmp_path: Path) -> None:
    assert _role_of(tmp_path / "roles/web/tasks/main.yml") == tmp_path / "roles/web"
    nested = tmp_path / "roles/web/roles/inner/tasks/main.yml"
    assert _role_of(nested) == tmp_path / "roles/web/roles/inner"
    assert _role_of(tmp_path / "plays/site.yml") == tmp_path / "plays/site.yml"
    assert _role_of(tmp_path / "roles/site.yml") == tmp_path / "roles/site.yml"


@pytest.mark.parametrize(
    ("value", "is_plain"),
    [
        (None, True),
        (1.5, True),
        (["a", {"b": (1, True)}], True),
        ({1: "a"}, False),
        ({"a": Path("x")}, False),
        ([object()], False),
        (b"bytes", False),
    ],
)
def test_variables_that_json_can_hold_are_handed_on(value: object, is_plain: bool) -> None:
    assert _is_plain(value) is is_plain


def test_connections_that_ssh_keeps_are_the_layouts_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_SSH_CONTROL_PATH", "/tmp/ansible-%%h")
    with tempfile.TemporaryDirectory(prefix="cp-") as short:
        env = make_env(None, Path(short), machines=1)
        assert env["ANSIBLE_SSH_CONTROL_PATH_DIR"] == f"{short}/cp"
    assert env["ANSIBLE_SSH_CONTROL_PATH"] == ""
    long = tmp_path / ("long" * 25)
    long.mkdir()
    assert make_env(None, long, machines=1)["ANSIBLE_SSH_CONTROL_PATH"] == "none"
