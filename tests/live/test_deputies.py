"""Machines outside of the fabric: a deputy answers, for every process that knows the way in."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import FabricError, UnsupportedError
from pytest_carthage.fabric.wire import client
from pytest_carthage.providers.netns import NetnsProvider
from tests.docs.cell import CellProvider
from tests.live.conftest import Build, end

pytestmark = pytest.mark.real


class Box(Layout):
    box = Machine(on="cell", env={"SHOP": "1"})


@pytest.fixture
def box(build: Build, as_root: None) -> Layout:
    return build(Box, providers={"netns": NetnsProvider, "cell": CellProvider})


def deputies(environment: Layout) -> list[int]:
    """Processes that answer for machines of an environment, by their log."""
    log = str(environment.folder / "logs" / "box.deputy.log")
    found = []
    for path in Path("/proc").glob("[0-9]*/fd/2"):
        try:
            if os.readlink(path) == log:  # noqa: PTH115  a link of the kernel's
                found.append(int(path.parts[2]))
        except OSError:
            continue
    return found


def gone(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


def test_deputy_answers_this_process_and_others(box: Layout) -> None:
    handle = box["box"]
    handle.write_text("/srv/x", "hello")
    assert handle.run("cat /srv/x; echo $SHOP; hostname").lines == ["hello1", "box"]
    assert not Path("/srv/x").exists()
    # as the command line and Ansible do, through the fabric's socket
    with client.connect(str(box.folder / "fabric.sock"), "box") as other:
        assert other.run(["cat", "/srv/x"]) == (0, b"hello", b"")
    box.remove("box")


def test_deputy_inherits_nothing_of_the_starter(
    box: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pid,) = deputies(box)
    variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")[:-1]
    assert sorted(variable.partition("=")[0] for variable in variables) == [
        "CARTHAGE_CONTROL",
        "LANG",
        "PATH",
    ]
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    box.remove("box")


def test_deputy_ends_with_its_machine(box: Layout) -> None:
    (pid,) = deputies(box)
    box.remove("box")
    assert gone(pid)
    with pytest.raises(client.Refused, match="no machine 'box'"):
        client.connect(str(box.folder / "fabric.sock"), "box")


def test_deputy_that_hangs_ends_with_its_environment(box: Layout) -> None:
    (pid,) = deputies(box)
    os.kill(pid, signal.SIGSTOP)
    try:
        cell: Any = box["box"].aio._means
        box.aio.portal.call(CellProvider().destroy, cell.identity)
        end(box)
        assert gone(pid)
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def test_machine_started_again_has_a_new_deputy(box: Layout) -> None:
    handle = box["box"]
    handle.write_text("/srv/x", "kept")
    (before,) = deputies(box)
    handle.restart()
    assert handle.read_text("/srv/x") == "kept"
    assert gone(before)
    (after,) = deputies(box)
    assert after != before
    box.remove("box")


def test_deputy_that_has_ended_is_told(box: Layout) -> None:
    (pid,) = deputies(box)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    with pytest.raises(FabricError, match="machine 'box' of layout 'Box': it is gone"):
        box["box"].run("true")
    box.remove("box")


class Mixed(Layout):
    lan = Network("10.0.0.0/24")
    box = Machine(on="cell")
    web = Machine(links={"eth0": lan.at(".1")})


def test_proof_of_a_sealed_layout_lists_what_it_did_not_observe(
    build: Build, as_root: None
) -> None:
    mixed = build(Mixed, providers={"netns": NetnsProvider, "cell": CellProvider})
    report = mixed.assert_sealed()
    assert report.unobserved == {"box": "target 'cell' is outside of the fabric"}
    text = str(report)
    assert text.startswith("layout 'Mixed' is sealed, as far as it was observed: ")
    assert "\n  not observed: box (target 'cell' is outside of the fabric)" in text
    mixed.remove("box")
    whole = mixed.assert_sealed()
    assert whole.unobserved == {}
    assert str(whole).startswith("layout 'Mixed' is sealed: ")


def test_proof_that_can_observe_nothing_is_refused(box: Layout) -> None:
    with pytest.raises(
        UnsupportedError,
        match=r"layout 'Box': assert_sealed\(\) can observe none of its machines \(box: target "
        r"'cell' is outside of the fabric\)",
    ):
        box.assert_sealed()
    box.remove("box")
