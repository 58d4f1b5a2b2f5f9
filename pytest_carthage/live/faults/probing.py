"""What this host can do of faults: they are tried, in namespaces of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pytest_carthage.errors import Problem

__all__ = ["CAPABILITIES", "lack", "lacking"]

#: what ``carthage_needs`` may name
CAPABILITIES = (
    "loss",
    "delay",
    "jitter",
    "rate",
    "duplicate",
    "corrupt",
    "down",
    "partition",
    "freeze",
    "crash",
)
_PROBE_S = 30.0


def lack(what: str, seen: str) -> Problem:
    """The problem of a host that cannot do a fault."""
    is_nft = "there is no nft" in seen
    return Problem(
        who="faults",
        what=f"{what} cannot be done on this host: {seen}",
        remedy="apt-get install nftables"
        if is_nft
        else "a kernel with netem, or with ifb and nftables",
        packages=("nftables",) if is_nft else (),
    )


def lacking(names: Iterable[str]) -> Sequence[Problem]:
    """What this host lacks for faults of these kinds; they are tried, in namespaces of their own.

    :param names: of :data:`CAPABILITIES`.
    :raises ValueError: there is no such kind.
    """
    wanted = sorted(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in CAPABILITIES]
    if unknown:
        raise ValueError(f"no fault {unknown[0]!r}; there are: {', '.join(CAPABILITIES)}")
    if untried := [name for name in wanted if name not in _tried]:
        _tried.update(_try(untried))
    outcomes = ((name, _tried[name]) for name in wanted)
    return [lack(name, seen) for name, seen in outcomes if seen is not None]


#: kind of fault to what this host lacks for it, as far as it was tried
_tried: dict[str, str | None] = {}


def _try(names: Sequence[str]) -> Mapping[str, str | None]:
    package = str(Path(__file__).resolve().parents[3])
    code = (
        f"import sys; sys.path.insert(0, {package!r})\n"
        "from pytest_carthage.fabric.disturb import main\nmain(sys.argv[1:])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, *names],
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
            cwd="/",
            env=dict(os.environ),
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(names, f"no answer after {_PROBE_S:g} s")
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return dict.fromkeys(names, said[-1] if said else f"status {done.returncode}")
    answer: Mapping[str, str | None] = json.loads(done.stdout)
    return answer
