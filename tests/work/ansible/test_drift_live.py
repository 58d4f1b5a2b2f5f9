"""What has changed on live machines since a playbook ran."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from pytest_carthage import AnsibleError, Drift, Layout, Machine, Network

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
  gather_facts: false
  tasks:
    - {name: Motto, copy: {dest: /etc/motto, content: "{{ motto }}\\n"}}
    - {name: Migrate, command: "true", changed_when: false}
"""


class Pair(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})
    db = Machine(links={"eth0": lan.at(".2")})


pair = Pair.fixture()


def test_drift_is_what_changed_since_the_playbook_ran(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match="layout 'Pair': no playbook has run on it"):
        pair.check_drift()
    site = tmp_path / "site.yml"
    site.write_text(SITE)
    pair.ansible(site, extra_vars={"motto": "as declared"})
    drift = pair.check_drift()
    assert not drift, drift
    pair.web.write_text("/etc/motto", "by hand\n")
    drift = pair.check_drift()
    assert isinstance(drift, Drift)
    assert repr(drift).startswith("Drift of site.yml: 1 of 4 tasks would change: Motto (web); ")
    assert {str(task) for task in drift.unchecked} == {"Migrate (web)", "Migrate (db)"}
    assert "-by hand\n    +as declared" in str(drift)
    assert pair.web.read_text("/etc/motto") == "by hand\n"
