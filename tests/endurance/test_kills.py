"""Some kills at random moments; all the others are tried by hand and every night."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endurance.kills import Matrix
from tests.support.host import netns_lacks

SEED = 12
ROLES = ("supervisor", "fabric", "agent", "worker", "pytest")


@pytest.mark.real
@pytest.mark.parametrize("role", ROLES)
def test_killed_process_leaves_nothing_and_raises_nothing(tmp_path: Path, role: str) -> None:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    matrix = Matrix(tmp_path, seed=SEED, targets=("netns",))
    kills = [matrix.kill("netns", role) for _ in range(2)]
    made = [kill for kill in kills if kill is not None]
    assert made, "no session had such a process at the moment that was chosen"
    assert [f"{kill}\n{kill.output}" for kill in made if kill.problem] == []
