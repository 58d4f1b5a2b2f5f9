"""What this host can do for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import Problem
from pytest_carthage.planning import make_plan
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.store.root import Store


class _Plain(Layout):
    """As much as most tests use: what few of them need is told by these."""

    lan = Network("10.0.0.0/24")
    router = Machine(links={"eth0": lan.at()}, masquerade="eth0")


def netns_lacks() -> Sequence[Problem]:
    """List what the ``netns`` target lacks here, special roles and kinds of links apart."""
    return NetnsProvider().check(make_plan(_Plain))


def host_cache() -> Path:
    """Folder of the lists and packages of Debian that any test or run has fetched before."""
    store = Store()
    store.prepare()
    return store.folder("apt")
