"""Environments that are listed as alive, without anything that lives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import StateError
from pytest_carthage.state import listing
from pytest_carthage.state.listing import Listed


def listed(name: str, *machines: str, **values: Any) -> Listed:
    """An environment of run ``bakodi`` with these machines."""
    given = {
        "name": name,
        "run": "bakodi",
        "layout": "Shop",
        "run_folder": Path("/state/runs/bakodi"),
        "folder": Path("/state/runs/bakodi") / name,
        "machines": {machine: {"target": "netns"} for machine in machines},
        "created_at": 1_700_000_000.0,
        "kept": False,
        "expires_at": None,
        "owner_pid": 1,
        "owned": True,
        "description": {},
    }
    return Listed(**{**given, **values})


def be_alive(monkeypatch: pytest.MonkeyPatch, environments: Sequence[Listed]) -> None:
    """Have these be the environments that are alive, and found by their whole names."""

    def find(name: str | None) -> Listed:
        for environment in environments:
            if name in (None, environment.name):
                return environment
        raise StateError(f"no environment {name!r} is alive")

    monkeypatch.setattr(listing, "list_environments", lambda: list(environments))
    everything = listing.Listing(environments=tuple(environments), silent=())
    monkeypatch.setattr(listing, "look", lambda: everything)
    monkeypatch.setattr(listing, "find_environment", find)
