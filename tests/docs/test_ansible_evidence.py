"""The snippets of ``docs/how-to/ansible-evidence.md``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (Path(sys.executable).parent / "ansible-playbook").exists()
        and shutil.which("ansible-playbook") is None,
        reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
    ),
]


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})


shop = Shop.fixture()


def test_evidence_of_a_playbook(shop: Shop) -> None:
    # docs: tasks
    result = shop.ansible("site.yml", diff=True)
    for task in result.of_status("changed"):
        print(task.name, task.host, task.path, task.duration_s, task.diff)
    # docs: end
    (motto,) = result.of_status("changed")
    assert (motto.name, motto.host, motto.path) == ("Motto", "web", "site.yml:4")
    assert motto.duration_s > 0
    assert "+as declared" in motto.diff
    # docs: idempotent
    shop.ansible("site.yml", idempotent=True)
    # docs: end
    # docs: drift
    drift = shop.check_drift()
    assert not drift, drift
    # docs: end
    assert drift.runs[0].ok
