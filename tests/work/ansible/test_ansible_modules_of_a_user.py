"""The same modules on machines of an ordinary user."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from pytest_carthage.images.builder import ensure
from pytest_carthage.portal import Portal
from tests.support.ordinary import users
from tests.work.ansible.test_ansible_modules import HAS_ALL, IMAGE, pytestmark

__all__ = ["pytestmark"]

MODULES = Path(__file__).with_name("test_ansible_modules.py")


@pytest.mark.timeout(700)
def test_modules_do_the_same_on_machines_of_a_user() -> None:
    with contextlib.closing(Portal()) as portal:
        built = portal.call(lambda: ensure(IMAGE, portal=portal, note=lambda who, text: None))
    with users(built) as user:
        user.env[HAS_ALL] = "1"
        done = user.test(str(MODULES), "-k", "modules_of", delegated=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout  # what this host has no rsync for is skipped
