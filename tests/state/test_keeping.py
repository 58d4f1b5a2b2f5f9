"""How long an environment is kept, and what becomes of one that cannot be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.host import privilege
from pytest_carthage.portal import Portal
from pytest_carthage.state import listing, starting
from pytest_carthage.state.run import Run
from tests.state.conftest import Join

_DAY_S = 86400.0


def begin(portal: Portal, run: Run) -> Path:
    async def go() -> Path:
        folder, fabric = await run.environment(
            "ci-shop", {}, unprivileged=not privilege.is_privileged()
        )
        fabric.close()
        return folder

    return portal.call(go)


@pytest.fixture
def ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that says by how many seconds the supervisor's clock was set ahead."""
    path = tmp_path / "ahead"
    path.write_text("0")
    code = starting._BOOTSTRAP.replace(
        "import main;",
        "import main; from pytest_carthage import clock; true_s = clock.unix_s; "
        f"clock.unix_s = lambda: true_s() + float(open({str(path)!r}).read());",
    )
    monkeypatch.setattr(starting, "_BOOTSTRAP", code)
    return path


def test_clock_that_jumps_ahead_ends_no_kept_environment(
    state: Path, portal: Portal, join: Join, ahead: Path
) -> None:
    run = join("ci")
    begin(portal, run)
    portal.call(lambda: run.keep("ci-shop", for_s=3600))
    (kept,) = listing.list_environments()
    before = kept.expires_at
    ahead.write_text(str(_DAY_S))
    time.sleep(2.5)  # it looks once a second
    (kept,) = listing.list_environments()
    assert before is not None
    assert kept.expires_at == pytest.approx(before + _DAY_S, abs=1)  # an hour from now, as before
    portal.call(run.destroy, "ci-shop")


def test_clock_that_is_set_back_keeps_no_environment_for_longer(
    state: Path, portal: Portal, join: Join, ahead: Path
) -> None:
    run = join("ci")
    folder = begin(portal, run)
    portal.call(lambda: run.keep("ci-shop", for_s=1))
    ahead.write_text(str(-_DAY_S))
    deadline = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_keep_that_cannot_be_written_keeps_nothing(state: Path, portal: Portal, join: Join) -> None:
    run = join("ci")
    folder = begin(portal, run)
    (folder / "environment.new").mkdir()  # in the place of what is to be written
    with pytest.raises(FabricError, match="Is a directory"):
        portal.call(lambda: run.keep("ci-shop", for_s=3600))
    (alive,) = listing.list_environments()
    assert (alive.kept, alive.owned, alive.expires_at) == (False, True, None)
    portal.call(run.leave)
    assert not folder.exists()


@pytest.mark.parametrize("for_s", ["3600", -1, float("inf"), float("nan"), True, [8]])
def test_keep_for_no_time_is_refused(state: Path, portal: Portal, join: Join, for_s: float) -> None:
    run = join("ci")
    begin(portal, run)
    with pytest.raises(FabricError, match=r"an environment cannot be kept for .* s"):
        portal.call(lambda: run.keep("ci-shop", for_s=for_s))
    assert not listing.list_environments()[0].kept
    portal.call(run.destroy, "ci-shop")
