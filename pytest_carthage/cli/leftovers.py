"""What could not be destroyed, in words and in plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_carthage import clock

if TYPE_CHECKING:
    from pytest_carthage.state.leftovers import Leftover

__all__ = ["leftover_record", "sentence"]


def sentence(leftover: Leftover) -> str:
    """What it is, and why it is still there.

    As in ``cloud ci-shop/web (id=i-3f): TimeoutError: no end after 60 s (tried twice, the last
    time 3 min ago)``.
    """
    from pytest_carthage.report.kept import age

    if leftover.tried_at is None:
        return f"{leftover.name}: its run was killed (it was not tried to destroy it)"
    times = {1: "once", 2: "twice"}.get(leftover.tries, f"{leftover.tries} times")
    ago = age(clock.unix_s() - leftover.tried_at)
    return f"{leftover.name}: {leftover.error} (tried {times}, the last time {ago} ago)"


def leftover_record(leftover: Leftover) -> dict[str, Any]:
    """It in plain values."""
    return {
        "kind": leftover.identity.kind,
        "environment": leftover.identity.environment,
        "name": leftover.identity.name,
        "detail": dict(leftover.identity.detail),
        "run": leftover.run,
        "run_id": leftover.identity.run,
        "error": leftover.error,
        "tried_at": leftover.tried_at,
        "tries": leftover.tries,
        "log": str(leftover.folder / "supervisor.log"),
    }
