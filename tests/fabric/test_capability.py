"""What the kernel is said to be able to do, and what it then does."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_carthage.fabric.host import capability
from tests.support.unprivileged import REPOSITORY, as_user

_SAYS = "from pytest_carthage.fabric.host import capability as c; print(c.probe({names!r}))"


def test_probe_answers_for_every_name() -> None:
    found = capability.probe(capability.NAMES)
    assert list(found) == list(capability.NAMES)
    assert all(reason is None or reason for reason in found.values())
    # every kernel that these tests run on has what the bridge needs
    assert found["vxlan"] is None or "nknown" in found["vxlan"]


def test_probe_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def ask(names: list[str]) -> dict[str, str | None]:
        asked.append(names)
        return dict.fromkeys(names, "no")

    monkeypatch.setattr(capability, "_known", {})
    monkeypatch.setattr(capability, "_ask", ask)
    assert capability.probe(["vlan", "gre", "vlan"]) == {"vlan": "no", "gre": "no"}
    assert capability.probe(["gre", "bond"]) == {"gre": "no", "bond": "no"}
    assert asked == [["vlan", "gre"], ["bond"]]


def test_probe_of_unknown_name_tells_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown capability 'token-ring'; there are: vlan, "):
        capability.probe(["token-ring"])


def test_probe_leaves_nothing_on_the_host() -> None:
    before = sorted(path.name for path in Path("/sys/class/net").iterdir())
    capability._ask(list(capability.NAMES))
    assert sorted(path.name for path in Path("/sys/class/net").iterdir()) == before


@pytest.mark.real
def test_probe_without_privileges_answers_the_same(tmp_path: Path) -> None:
    names = ["vlan", "vxlan", "macvlan", "gre", "bond", "netem", "tbf", "nft-bridge"]
    done = subprocess.run(
        as_user([sys.executable, "-c", _SAYS.format(names=names)], home=tmp_path),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=60,
    )
    assert done.stdout.strip() == str(capability.probe(names)), done.stderr


def test_probe_that_cannot_try_tells_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "_known", {})
    monkeypatch.setattr(capability, "_BOOTSTRAP", "raise OSError('not today')")
    assert capability.probe(["vlan"]) == {"vlan": "it cannot be tried: OSError: not today"}


def test_problems_name_the_network_and_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "_known", {"gre": "Unknown device type", "vlan": None})
    needs = {"gre": "network 'mgmt' of kind gre", "vlan": "link eth0.5"}
    (problem,) = capability.problems("netns", needs)
    assert str(problem) == (
        "netns: network 'mgmt' of kind gre: this kernel cannot make GRE tunnels "
        f"(Linux {platform.release()}: Unknown device type); try: a kernel with the module ip_gre "
        "(Debian's own has it; modprobe ip_gre)"
    )


def test_problems_of_a_plan_without_needs_try_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "_ask", lambda names: pytest.fail("asked"))
    assert capability.problems("netns", {}) == []
