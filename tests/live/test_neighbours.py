"""Other live layouts, as a trial of seals looks at them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_carthage.live import neighbours


@pytest.mark.asyncio
async def test_links_to_what_is_elsewhere_are_no_neighbours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    near = {"mac": "02:00:00:00:00:01", "addresses": ["10.0.0.1/24"]}
    far = {"mac": None, "addresses": ["10.0.0.10/24"]}

    def listed(name: str) -> SimpleNamespace:
        machines = {"web": {"links": [near]}, "db": {"links": [far]}}
        return SimpleNamespace(
            name=name, folder=tmp_path / name, socket=tmp_path / "socket", machines=machines
        )

    there = [listed("mine"), listed("other")]
    monkeypatch.setattr(neighbours, "list_environments", lambda: there)
    (one,) = await neighbours.neighbours(tmp_path / "mine")
    assert one.name == "other"
    assert one.macs == {"02:00:00:00:00:01"}
    assert list(one.addresses) == ["10.0.0.1"]
