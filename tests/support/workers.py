"""How tests are spread over workers of pytest-xdist."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

__all__ = ["Queue", "time_limit_s"]


def time_limit_s(item: pytest.Item) -> float:
    """How long a test may take, by its own word or by the configuration's."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker and marker.args else item.config.getini("timeout"))


class Queue(LoadScopeScheduling):  # type: ignore[misc]
    """Each worker takes the next test when it is done with one; what shares a fixture stays whole.

    The groups of ``--dist=loadgroup`` would do for the latter, but xdist 3.8 writes them where
    pytest 9 does not look.
    """

    #: file to what its tests share
    SHARED: ClassVar = {
        "docs/test_console.py": "somebody new",
        "images/test_bases.py": "a Debian that is made",
        "suites/test_offline.py": "an environment with the wheel",
        "suites/test_outside_product.py": "an environment with the wheel",
    }

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        # the order is ours
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if Path(file).name.startswith("test_libvirt") or "[libvirt" in nodeid:
            return "emulated machines"  # one worker has them all: each takes a processor
        return self.SHARED.get(file, nodeid)
