"""What runs of Ansible have left comes together by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.work.ansible.coverage.coverage import Coverage, Sum, read


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    for name in ("site.yml", "roles/web/tasks/main.yml", "roles/web/templates/page.j2"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def coverage(tree: Path, *runs: list[dict[str, Any]], root: Path | None = None) -> Coverage:
    """What comes of records, each list by one run."""
    folder = tree.parent / "records"
    folder.mkdir(exist_ok=True)
    for number, records in enumerate(runs):
        lines = [json.dumps(record) for record in records]
        (folder / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    return read(folder, root=root or tree, without=tree.parent)


def source(tree: Path, **more: Any) -> dict[str, Any]:
    return {
        "source": str(tree / "site.yml"),
        "role": "",
        "tasks": [[2, "First", "task"], [5, "Second", "task"], [9, "Restart", "handler"]],
        "conditions": [[6, 9, "x", "Second"]],
        **more,
    }


def test_runs_come_together_by_file_and_line(tree: Path) -> None:
    site = tree / "site.yml"
    value = coverage(
        tree,
        [
            source(tree),
            {"reached": f"{site}:2"},
            {"ran": f"{site}:2"},
            {"reached": f"{site}:5"},
            {"when": f"{site}:6:9", "is": False},
        ],
        [
            {"reached": f"{site}:5"},
            {"ran": f"{site}:5"},
            {"when": f"{site}:6:9", "is": True},
        ],
    )
    (file,) = value.sources
    assert [task.state for task in file.tasks] == ["ran", "ran", "never"]
    (condition,) = file.conditions
    assert (condition.was_true, condition.was_false) == (True, True)
    assert value.total.tasks == Sum(covered=2, total=2)
    assert value.total.handlers == Sum(covered=0, total=1)
    assert value.total.branches == Sum(covered=2, total=2)


def test_task_that_only_came_to_its_turn_is_skipped(tree: Path) -> None:
    value = coverage(tree, [source(tree), {"reached": f"{tree}/site.yml:5"}])
    assert [task.state for task in value.sources[0].tasks] == ["never", "skipped", "never"]
    assert not value.sources[0].conditions[0].was_asked


def test_order_of_runs_does_not_matter(tree: Path) -> None:
    place = f"{tree}/site.yml:2"
    value = coverage(tree, [{"ran": place}], [source(tree), {"reached": place}])
    assert value.sources[0].tasks[0].state == "ran"


def test_template_counts_as_read_by_any_of_its_paths(tree: Path) -> None:
    (tree.parent / "link").symlink_to(tree)
    path = "roles/web/templates/page.j2"
    value = coverage(
        tree,
        [
            {"template": str(tree / path), "role": "web"},
            {"read": f"{tree.parent}/link/{path}"},
        ],
    )
    assert value.total.templates == Sum(covered=1, total=1)


def test_roles_come_after_files_and_have_sums_of_their_own(tree: Path) -> None:
    value = coverage(
        tree,
        [
            source(tree, source=str(tree / "roles/web/tasks/main.yml"), role="web"),
            source(tree),
            {"template": str(tree / "roles/web/templates/page.j2"), "role": "web"},
        ],
    )
    assert [part.name for part in value.parts] == ["site.yml", "web"]
    assert [part.templates.total for part in value.parts] == [0, 1]
    assert value.total.tasks == Sum(covered=0, total=4)


def test_files_of_a_moment_and_of_installed_code_are_left_out(tree: Path) -> None:
    installed = tree / "site-packages" / "role.yml"
    installed.parent.mkdir()
    installed.touch()
    elsewhere = tree.parent / "test_0" / "site.yml"
    elsewhere.parent.mkdir()
    elsewhere.touch()
    value = coverage(
        tree,
        [
            source(tree, source=str(tree / "gone.yml")),
            source(tree, source=str(installed)),
            source(tree, source=str(elsewhere)),
            source(tree),
        ],
    )
    assert [file.path.name for file in value.sources] == ["site.yml"]
    assert value.sources[0].path == tree / "site.yml"


def test_line_that_was_never_finished_is_passed_over(tree: Path) -> None:
    folder = tree.parent / "records"
    folder.mkdir()
    (folder / "killed.jsonl").write_text(json.dumps(source(tree)) + '\n{"ran": "/si')
    assert len(read(folder, root=tree, without=tree.parent).sources) == 1


def test_record_holds_everything(tree: Path) -> None:
    value = coverage(tree, [source(tree), {"ran": f"{tree}/site.yml:2"}])
    record = json.loads(json.dumps(value.record()))
    assert record["version"] == 1
    assert record["total"]["tasks"] == {"covered": 1, "total": 2}
    assert record["parts"][0]["name"] == "site.yml"
    (file,) = record["files"]
    assert file["path"] == "site.yml"
    assert file["tasks"][0] == {"line": 2, "name": "First", "kind": "task", "state": "ran"}
    assert file["conditions"] == [
        {"line": 6, "column": 9, "when": "x", "of": "Second", "true": False, "false": False}
    ]
