"""An agent behind a command that leads elsewhere: a network of its own, another user."""

from __future__ import annotations

import shutil

import pytest

from pytest_carthage.channels.far.deputy import deputy_by_stream
from pytest_carthage.errors import FabricError
from tests.channels.conftest import served_by

pytestmark = pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)")
_APART = ["unshare", "--user", "--map-root-user", "--net"]


def test_agent_sees_and_uses_the_network_where_it_is() -> None:
    with served_by(deputy_by_stream(command=_APART)) as bench:
        seen, _ = bench.ask("observe")
        assert {row["interface"] for row in seen["addresses"]} == {"lo"}
        assert seen["routes"] == seen["listening"] == []
        with pytest.raises(FabricError, match="Network is unreachable"):
            bench.ask("connect", host="192.0.2.1", port=9, timeout_s=5)


def test_command_that_leads_nowhere_is_told_by_its_last_words() -> None:
    script = "echo 'no route to board7' >&2; exit 1"
    with served_by(deputy_by_stream(command=["sh", "-c", script])) as bench:
        for _ in range(2):
            with pytest.raises(FabricError, match="machine 'web': no route to board7"):
                bench.ask("ping")
