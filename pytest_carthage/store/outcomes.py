"""What declared steps have come to: which layer, for which inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_carthage.store.disk import write_atomically

__all__ = ["Outcome", "Outcomes"]

#: of one step; the oldest are forgotten
_MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The layer that a step had once."""

    #: path to hash of the files of the host that it has read
    inputs: Mapping[str, str]
    #: the layer's key
    layer: str


class Outcomes:
    """Outcomes of steps: a file each, named by the key of what was declared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, declared: str) -> Path:
        """The file of a declared step."""
        return self.folder / f"{declared}.json"

    def of(self, declared: str) -> Sequence[Outcome]:
        """What a declared step has come to, the last time first."""
        return _load(self.path(declared)) or ()

    def declared(self) -> Iterator[str]:
        """Keys of the steps that have any."""
        return (path.stem for path in self.folder.glob("*.json"))

    def damaged(self) -> list[Path]:
        """Files that say nothing of a step."""
        return [path for path in sorted(self.folder.glob("*.json")) if _load(path) is None]

    def add(self, declared: str, inputs: Mapping[str, str], layer: str) -> None:
        """Remember one; for who has claimed the step."""
        outcome = Outcome(inputs=dict(inputs), layer=layer)
        others = (older for older in self.of(declared) if older.inputs != outcome.inputs)
        self.replace(declared, [outcome, *others])

    def adopt(self, declared: str, inputs: Mapping[str, str], layer: str) -> None:
        """Remember what came of it elsewhere, after what came of it here; for its claimer."""
        there = self.of(declared)
        if all(outcome.inputs != inputs for outcome in there):
            kept = there[: _MOST - 1]
            self.replace(declared, [*kept, Outcome(inputs=dict(inputs), layer=layer)])

    def replace(self, declared: str, outcomes: Sequence[Outcome]) -> None:
        """Remember just these; for who has claimed the step."""
        if outcomes:
            rows = [asdict(outcome) for outcome in outcomes[:_MOST]]
            write_atomically(self.path(declared), json.dumps(rows))
        else:
            self.path(declared).unlink(missing_ok=True)


def _load(path: Path) -> Sequence[Outcome] | None:
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    is_whole = isinstance(rows, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("layer"), str)
        and isinstance(row.get("inputs"), dict)
        for row in rows
    )
    return [Outcome(inputs=row["inputs"], layer=row["layer"]) for row in rows] if is_whole else None
