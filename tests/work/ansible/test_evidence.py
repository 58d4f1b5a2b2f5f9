"""What real runs tell of each task: diffs, what could not be checked, what changes again."""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import AnsibleError
from pytest_carthage.handles.playbook import PlaybookResult, TaskResult
from pytest_carthage.work.ansible.playbook import run_play
from pytest_carthage.work.ansible.plays import Play
from tests.work.ansible.live import Stand, StandIn, planned

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "ansible-playbook").exists()
    and shutil.which("ansible-playbook") is None,
    reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
)

Write = Any


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "site.yml"
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    return write


def run(
    environment: StandIn, playbook: Path, *, idempotent: bool = False, **options: Any
) -> PlaybookResult:
    options["extra_vars"] = {"folder": str(playbook.parent)}
    given: Any = options
    play = Play.of(environment.plan, playbook, options=given)
    return asyncio.run(run_play(environment, play, timeout_s=60, idempotent=idempotent))


def tasks(result: PlaybookResult) -> dict[str, TaskResult]:
    return {task.name: task for task in result.tasks}


def test_tasks_have_diffs_where_these_are_asked_for(
    stand: Stand, write: Write, tmp_path: Path
) -> None:
    playbook = write(
        """
        - hosts: all
          gather_facts: false
          tasks:
            - {name: One, copy: {dest: "{{ folder }}/a", content: "new\\n"}}
            - name: Some
              lineinfile: {path: "{{ folder }}/{{ item }}", line: x, create: true}
              loop: [b, c]
            - {name: Secret, copy: {dest: "{{ folder }}/d", content: "hidden\\n"}, no_log: true}
            - {name: Quiet, copy: {dest: "{{ folder }}/e", content: "e\\n"}, diff: false}
            - {name: Same, copy: {dest: "{{ folder }}/a", content: "new\\n"}}
        """
    )
    (tmp_path / "a").write_text("old\n")
    environment = stand(planned("web1"))
    told = tasks(run(environment, playbook, diff=True))
    assert "-old\n+new" in told["One"].diff
    assert told["Some"].diff.count("+x") == 2
    assert [told[name].diff for name in ("Secret", "Quiet", "Same")] == ["", "", ""]
    (tmp_path / "a").write_text("old\n")
    assert {task.diff for task in run(environment, playbook).tasks} == {""}
    (tmp_path / "a").write_text("old\n")
    (tmp_path / "ansible.cfg").write_text("[diff]\nalways = true\n")
    assert "-old\n+new" in tasks(run(environment, playbook))["One"].diff


def test_check_mode_tells_which_tasks_it_could_not_check(stand: Stand, write: Write) -> None:
    playbook = write(
        """
        - hosts: all
          gather_facts: false
          tasks:
            - {name: Command, command: "true"}
            - {name: Raw, raw: "true"}
            - {name: Not meant, command: "true", when: false}
            - {name: No item, command: "true", loop: []}
            - {name: Items, command: "true", loop: [1, 2], when: item > 1}
            - {name: File, file: {path: "{{ folder }}/f", state: directory}}
            - {name: Really, command: "true", check_mode: false}
        """
    )
    environment = stand(planned("web1"))
    told = tasks(run(environment, playbook, check=True))
    assert {name for name, task in told.items() if not task.checked} == {"Command", "Raw", "Items"}
    assert told["File"].status == "changed"
    assert all(task.checked for task in run(environment, playbook).tasks)


def test_playbook_that_changes_again_is_not_idempotent(
    stand: Stand, write: Write, tmp_path: Path
) -> None:
    playbook = write(
        """
        - hosts: all
          gather_facts: false
          tasks:
            - {name: Steady, copy: {dest: "{{ folder }}/a", content: "a\\n"}}
            - {name: Grows, shell: "echo x >> {{ folder }}/b"}
            - name: Toggles
              copy:
                dest: "{{ folder }}/c"
                content: "{{ 'two' if (folder ~ '/c') is file else 'one' }}\\n"
        """
    )
    with pytest.raises(AnsibleError, match="not idempotent") as caught:
        run(stand(planned("web1")), playbook, idempotent=True)
    text = str(caught.value)
    assert "  Grows (web1), site.yml:5:\n" in text
    assert "    -one\n    +two\n" in text
    assert "Steady" not in text
    assert (tmp_path / "b").read_text() == "x\nx\n"


def test_playbook_that_changes_once_is_idempotent(stand: Stand, write: Write) -> None:
    playbook = write(
        """
        - hosts: all
          gather_facts: false
          tasks:
            - {name: Steady, copy: {dest: "{{ folder }}/a", content: "a\\n"}}
        """
    )
    result = run(stand(planned("web1")), playbook, idempotent=True)
    assert repr(result) == "site.yml: 1 changed: Steady (web1)"
