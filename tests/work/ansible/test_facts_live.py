"""Facts that are kept, and when they are not."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network, PlaybookResult

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "ansible-playbook").exists()
        and shutil.which("ansible-playbook") is None,
        reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
    ),
]

SITE = """
- hosts: all
  module_defaults: &facts {setup: {gather_subset: ["!all", "!min", local]}}
  tasks:
    - {name: First, debug: {msg: "{{ ansible_local.motto.now.now | default('none') }}"}}
    - {name: Folder, file: {path: /etc/ansible/facts.d, state: directory}}
    - name: Rename
      copy: {dest: /etc/ansible/facts.d/motto.fact, content: "[now]\\nnow={{ motto }}\\n"}
      when: motto is defined
- hosts: all
  module_defaults: *facts
  tasks:
    - {name: Second, debug: {msg: "{{ ansible_local.motto.now.now | default('none') }}"}}
"""


class Single(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})


single = Single.fixture()


def told(result: PlaybookResult) -> tuple[int, str, str]:
    """How often facts were gathered, and what the two plays saw."""
    messages = {task.name: task.message for task in result.tasks}
    gathered = sum(task.name == "Gathering Facts" for task in result.tasks)
    return gathered, messages["First"], messages["Second"]


def test_facts_are_kept_where_that_is_asked_for(single: Single, tmp_path: Path) -> None:
    site = tmp_path / "site.yml"
    site.write_text(SITE)
    assert told(single.ansible(site)) == (2, "none", "none")
    assert told(single.ansible(site, keep_facts=True)) == (1, "none", "none")
    assert told(single.ansible(site, keep_facts=True)) == (0, "none", "none")
    assert told(single.ansible(site, keep_facts=True, flush_cache=True)) == (1, "none", "none")
    # one that does not ask for it is not told what others have kept
    assert told(single.ansible(site, extra_vars={"motto": "one"})) == (2, "none", "one")
    # the machine has changed
    assert told(single.ansible(site, keep_facts=True)) == (1, "one", "one")
    # what changes within a run is why it has to be asked for
    kept = single.ansible(site, keep_facts=True, extra_vars={"motto": "two"})
    assert told(kept) == (0, "one", "one")
    assert told(single.ansible(site, keep_facts=True)) == (1, "two", "two")
    single.web.restart()
    assert told(single.ansible(site, keep_facts=True))[0] == 1
