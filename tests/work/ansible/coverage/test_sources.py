"""What there is to reach in files of Ansible, and where."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml")

from pytest_carthage.work.ansible.coverage.sources import (
    files_of_role,
    source,
    templates_of,
)


def held(tmp_path: Path, text: str, kind: str = "tasks") -> dict[str, Any]:
    path = tmp_path / "file.yml"
    path.write_text(textwrap.dedent(text).lstrip("\n"))
    content = source(str(path), kind)
    assert content is not None
    return content


def test_task_is_where_its_mapping_begins(tmp_path: Path) -> None:
    content = held(
        tmp_path,
        """
        - name: First
          debug:

        -
          when: here
          debug: {msg: "{{ x }}"}
        - {command: "true", tags: [a]}
        """,
    )
    assert content["tasks"] == [(1, "First", "task"), (5, "debug", "task"), (7, "command", "task")]
    assert content["conditions"] == [(5, 9, "here", "debug")]


def test_tasks_of_blocks_count_and_their_conditions_once(tmp_path: Path) -> None:
    content = held(
        tmp_path,
        """
        - name: Together
          when:
            - one
            - two is defined and
              three
          block: [{debug: }]
          rescue: [{fail: }]
          always:
            - block:
                - ping:
        """,
    )
    assert [name for _, name, _ in content["tasks"]] == ["debug", "fail", "ping"]
    assert content["conditions"] == [
        (3, 7, "one", "Together"),
        (4, 7, "two is defined and three", "Together"),
    ]


def test_imports_and_meta_are_no_tasks_but_their_conditions_count(tmp_path: Path) -> None:
    content = held(
        tmp_path,
        """
        - import_tasks: more.yml
          when: wanted
        - ansible.builtin.import_role: {name: x}
        - meta: flush_handlers
        - include_tasks: late.yml
        """,
    )
    assert content["tasks"] == [(5, "include_tasks", "task")]
    assert content["conditions"] == [(2, 9, "wanted", "import_tasks")]


def test_constant_condition_has_no_branches(tmp_path: Path) -> None:
    assert held(tmp_path, "- debug:\n  when: false\n")["conditions"] == []


def test_playbook_holds_all_its_parts(tmp_path: Path) -> None:
    content = held(
        tmp_path,
        """
        - import_playbook: other.yml
          when: other
        - hosts: all
          pre_tasks: [{name: Before, debug: }]
          roles:
            - plain
            - {role: web, when: webbed}
          tasks: [{name: Main, debug: }]
          post_tasks: [{name: After, debug: }]
          handlers: [{name: Restart, debug: }]
        """,
        "playbook",
    )
    assert [(name, kind) for _, name, kind in content["tasks"]] == [
        ("Before", "task"),
        ("Main", "task"),
        ("After", "task"),
        ("Restart", "handler"),
    ]
    assert [text for _, _, text, _ in content["conditions"]] == ["other", "webbed"]


def test_roles_that_a_role_depends_on_have_conditions(tmp_path: Path) -> None:
    content = held(tmp_path, "dependencies: [{role: base, when: based}]\n", "meta")
    assert content == {"tasks": [], "conditions": [(1, 35, "based", "role base")]}


@pytest.mark.parametrize(
    "text", ["just: variables\n", "- [broken\n", "$ANSIBLE_VAULT;1.1;AES256\n"]
)
def test_file_that_is_no_list_holds_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.yml"
    path.write_text(text)
    assert source(str(path), "tasks") is None
    assert source(str(tmp_path / "absent.yml"), "tasks") is None


def test_tags_of_any_kind_are_let_pass(tmp_path: Path) -> None:
    text = '- debug: {msg: !unsafe "{{"}\n  vars: {x: !vault "abc"}\n'
    assert held(tmp_path, text)["tasks"] == [(1, "debug", "task")]


def test_role_has_files_and_templates_in_any_depth(tmp_path: Path) -> None:
    for name in (
        "tasks/main.yml",
        "tasks/os/debian.yaml",
        "tasks/.main.yml.swp",
        "tasks/notes.md",
        "handlers/main.yml",
        "meta/main.yml",
        "templates/a.j2",
        "templates/conf.d/b",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = [
        (str(Path(path).relative_to(tmp_path)), kind) for path, kind in files_of_role(str(tmp_path))
    ]
    assert found == [
        ("tasks/main.yml", "tasks"),
        ("tasks/os/debian.yaml", "tasks"),
        ("handlers/main.yml", "handlers"),
        ("meta/main.yml", "meta"),
    ]
    assert [Path(path).name for path in templates_of(str(tmp_path))] == ["a.j2", "b"]
