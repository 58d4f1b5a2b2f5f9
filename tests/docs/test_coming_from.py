"""The snippets of ``docs/how-to/coming-from.md``, and whether what its tables name is there."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

import pytest_carthage
from pytest_carthage import Layout, LinkHandle, Machine, MachineHandle, roles, stage
from tests.support.unprivileged import REPOSITORY

PAGE = (REPOSITORY / "docs/how-to/coming-from.md").read_text()
BESIDE = Path(sys.executable).parent / "ansible-playbook"


# docs: molecule
TREE = Path(__file__).parent / "production"


class Default(Layout):
    """Two platforms."""

    instance1 = Machine(groups=["web"])
    instance2 = Machine(groups=["web"])


scenario = Default.fixture()


@stage
async def converged(scenario: Default) -> None:
    await scenario.aio.ansible(TREE / "site.yml", idempotent=True)


@pytest.mark.real
@pytest.mark.skipif(
    not BESIDE.exists() and shutil.which("ansible-playbook") is None,
    reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
)
# docs: verify
@pytest.mark.parametrize("name", ["instance1", "instance2"])
def test_motto_is_there(scenario: Default, converged: None, name: str) -> None:
    assert scenario[name].host.file("/etc/motto").contains("We deliver")
    # docs: end


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(?:roles=\[)?([A-Z]\w+)[(.]", PAGE))))
def test_class_is_importable(name: str) -> None:
    assert hasattr(pytest_carthage, name) or hasattr(roles, name)


@pytest.mark.parametrize(
    ("owner", "name"),
    sorted(set(re.findall(r"(?<![-\w])(layout|machine|link|Layout)\.(\w+)", PAGE))),
)
def test_member_is_there(owner: str, name: str) -> None:
    owners = {"layout": Layout, "Layout": Layout, "machine": MachineHandle, "link": LinkHandle}
    assert hasattr(owners[owner], name)
