"""What real runs of Ansible tell of what they reach."""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
from pathlib import Path

import pytest

from pytest_carthage.errors import AnsibleError
from pytest_carthage.handles.ansible_options import PlaybookOptions
from pytest_carthage.work.ansible.coverage.coverage import Coverage, Source, read
from pytest_carthage.work.ansible.playbook import run_playbook
from tests.work.ansible.live import Stand, StandIn, planned

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "ansible-playbook").exists()
    and shutil.which("ansible-playbook") is None,
    reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
)

TREE = {
    "site.yml": """
        - hosts: all
          gather_facts: false
          roles:
            - {role: web, when: with_web | default(true)}
          tasks:
            - import_tasks: tasks/imported.yml
              when: with_more is defined
            - include_tasks: tasks/included.yml
            - name: Undefined
              debug:
              when: nobody_knows_this
              ignore_errors: true
            - name: Expected
              fail: {msg: as it should}
              when: 1 < 2
              ignore_errors: true
            - name: Some
              debug: {msg: "{{ item }}"}
              loop: [1, 2]
              when:
                - item > 1
                - item < 5
            - name: Secret
              command: "true"
              no_log: true
              when: 1 > 2
            - name: Rescued
              block: [{name: Fails, fail: }]
              rescue: [{name: Catches, debug: }]
            - name: Not in this run
              debug:
              tags: [never, rare]
          handlers:
            - {name: Unheard, debug: }
    """,
    "tasks/imported.yml": "- {name: Imported, debug: }\n",
    "tasks/included.yml": "- name: Included\n  debug:\n  when: >\n    2 > 1\n",
    "roles/base/tasks/main.yml": "- {name: Base, debug: }\n",
    "roles/web/meta/main.yml": "dependencies: [{role: base, when: with_base | default(true)}]\n",
    "roles/web/tasks/main.yml": """
        - name: Page
          template: {src: page.j2, dest: "{{ folder }}/page"}
          notify: Restart
        - include_tasks: debian.yml
          when: on_debian is defined
    """,
    "roles/web/tasks/debian.yml": "- {name: One, debug: }\n- {name: Two, debug: }\n",
    "roles/web/handlers/main.yml": "- {name: Restart, debug: }\n- {name: Reload, debug: }\n",
    "roles/web/templates/page.j2": "{% include 'head.j2' %} page\n",
    "roles/web/templates/head.j2": "head\n",
    "roles/web/templates/unused.j2": "unused\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    for name, text in TREE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return folder


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    monkeypatch.setenv("CARTHAGE_ANSIBLE_COVERAGE", str(folder))
    return folder


def run(environment: StandIn, tree: Path, *, check: bool = False, **variables: object) -> None:
    options: PlaybookOptions = {"extra_vars": {"folder": str(tree), **variables}, "check": check}
    asyncio.run(run_playbook(environment, tree / "site.yml", options=options))


def covered(records: Path, tree: Path) -> Coverage:
    return read(records, root=tree, without=tree.parent)


def states(source: Source) -> dict[str, str]:
    return {task.name: task.state for task in source.tasks}


def branches(source: Source) -> dict[str, tuple[bool, bool]]:
    return {each.text: (each.was_true, each.was_false) for each in source.conditions}


def test_one_run_tells_what_there_is_and_what_it_reached(
    stand: Stand, tree: Path, records: Path
) -> None:
    run(stand(planned("web1")), tree)
    value = covered(records, tree)
    files = {value.shown(source.path): source for source in value.sources}
    assert states(files["site.yml"]) == {
        "include_tasks": "ran",
        "Undefined": "skipped",  # its condition failed
        "Expected": "ran",
        "Some": "ran",
        "Secret": "skipped",
        "Fails": "ran",
        "Catches": "ran",
        "Not in this run": "never",
        "Unheard": "never",
    }
    assert branches(files["site.yml"]) == {
        "with_web | default(true)": (True, False),
        "with_more is defined": (False, True),
        "nobody_knows_this": (False, False),
        "1 < 2": (True, False),
        "item > 1": (True, True),
        "item < 5": (True, False),
        "1 > 2": (False, True),
    }
    assert states(files["tasks/imported.yml"]) == {"Imported": "skipped"}
    assert states(files["tasks/included.yml"]) == {"Included": "ran"}
    assert branches(files["tasks/included.yml"]) == {"2 > 1": (True, False)}
    assert states(files["roles/base/tasks/main.yml"]) == {"Base": "ran"}
    assert branches(files["roles/web/meta/main.yml"]) == {
        "with_base | default(true)": (True, False)
    }
    assert states(files["roles/web/tasks/main.yml"]) == {"Page": "ran", "include_tasks": "skipped"}
    assert states(files["roles/web/tasks/debian.yml"]) == {"One": "never", "Two": "never"}
    assert states(files["roles/web/handlers/main.yml"]) == {"Restart": "ran", "Reload": "never"}
    assert {template.path.name: template.was_read for template in value.templates} == {
        "head.j2": True,
        "page.j2": True,
        "unused.j2": False,
    }


def test_further_run_adds_what_it_reaches(stand: Stand, tree: Path, records: Path) -> None:
    environment = stand(planned("web1"))
    run(environment, tree)
    before = covered(records, tree).total
    run(environment, tree, on_debian=True, with_more=True, with_base=False)
    value = covered(records, tree)
    assert value.total.tasks.total == before.tasks.total
    files = {value.shown(source.path): source for source in value.sources}
    assert states(files["roles/web/tasks/debian.yml"]) == {"One": "ran", "Two": "ran"}
    assert states(files["tasks/imported.yml"]) == {"Imported": "ran"}
    assert branches(files["roles/web/meta/main.yml"]) == {"with_base | default(true)": (True, True)}


def test_what_is_only_foretold_is_not_reached(stand: Stand, tree: Path, records: Path) -> None:
    run(stand(planned("web1")), tree, check=True)
    assert list(records.iterdir()) == []


def test_failed_run_tells_how_far_it_came(stand: Stand, tree: Path, records: Path) -> None:
    (tree / "tasks/included.yml").write_text("- {name: Stop, fail: }\n- {name: After, debug: }\n")
    with pytest.raises(AnsibleError, match="Stop"):
        run(stand(planned("web1")), tree)
    files = {source.path.name: source for source in covered(records, tree).sources}
    assert states(files["included.yml"]) == {"Stop": "ran", "After": "never"}
    assert states(files["site.yml"])["Expected"] == "never"


def test_imported_playbook_included_role_and_block_count(
    stand: Stand, tree: Path, records: Path
) -> None:
    (tree / "site.yml").write_text(
        "- {import_playbook: real.yml, when: with_real | default(true)}\n"
    )
    (tree / "real.yml").write_text(
        textwrap.dedent(
            """
            - hosts: all
              strategy: free
              gather_facts: false
              tasks:
                - when: 1 < 3
                  block:
                    - {name: Inner, debug: , when: 2 > 3}
                    - {name: Other, debug: }
                - include_role: {name: web, tasks_from: debian, apply: {when: 3 < 4}}
                - {name: Tell, command: "true", notify: Reload}
            """
        )
    )
    run(stand(planned("web1"), planned("web2")), tree)
    files = {
        source.path.relative_to(tree).as_posix(): source
        for source in covered(records, tree).sources
    }
    assert branches(files["site.yml"]) == {"with_real | default(true)": (True, False)}
    assert states(files["real.yml"]) == {
        "Inner": "skipped",
        "Other": "ran",
        "include_role": "ran",
        "Tell": "ran",
    }
    assert branches(files["real.yml"]) == {"1 < 3": (True, False), "2 > 3": (False, True)}
    assert states(files["roles/web/tasks/debian.yml"]) == {"One": "ran", "Two": "ran"}
    assert states(files["roles/web/tasks/main.yml"])["Page"] == "never"
    assert states(files["roles/web/handlers/main.yml"]) == {"Restart": "never", "Reload": "ran"}
