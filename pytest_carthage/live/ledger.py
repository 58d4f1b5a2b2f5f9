"""The ledger of an environment: what it was declared as, and which stages have run in it.

It is in the environment's folder, for whoever uses the environment when those who have built it
are gone.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import pickle
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FunctionType, MappingProxyType
from typing import Any, cast

from pytest_carthage import clock
from pytest_carthage.errors import StateError
from pytest_carthage.model.stage import Stage
from pytest_carthage.planning.declaration import Declaration
from pytest_carthage.planning.fingerprint import Fingerprint, fingerprint
from pytest_carthage.planning.plan import Plan, PlannedMachine

__all__ = [
    "Ledger",
    "Ran",
    "begin",
    "file_of",
    "forget_stage",
    "keep_members",
    "members",
    "note_stage",
    "read",
]

_FILE = "ledger.json"
_JOINED = "joined.pickle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A stage that has run in an environment."""

    #: content key of the stage, as it was then
    key: str
    #: UNIX time of its end
    at_s: float
    #: whether its value is known, and what it is
    has_value: bool = False
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What is known of an environment beside its plan."""

    #: name of the layout class, and the file that has it
    layout: str
    file: str
    #: name of the fixture that has built it; empty: a command has
    fixture: str
    #: file or folder in which pytest found that fixture; empty: it is not known
    suite: str
    #: what ``--carthage-target`` was, as far as it was given
    target: str | None
    declared: Fingerprint
    #: name to stage, of those that have run to their end
    stages: Mapping[str, Ran] = field(default_factory=dict)
    #: names of machines now, in their order; None: those that were declared
    machines: tuple[str, ...] | None = None


def begin(
    folder: Path,
    layout: type[Declaration],
    plan: Plan,
    *,
    fixture: str = "",
    suite: str = "",
    target: str | None = None,
) -> None:
    """Begin the ledger of a new environment.

    :param plan: as it was declared.
    :raises OSError: there is no room for it.
    """
    ledger = Ledger(
        layout=layout.__name__,
        file=file_of(layout),
        fixture=fixture,
        suite=suite,
        target=target,
        declared=fingerprint(plan),
    )
    _write(folder, ledger)


def read(folder: Path) -> Ledger:
    """The ledger in the folder of an environment.

    :raises StateError: there is none, or it is of another version.
    """
    try:
        record = json.loads((folder / _FILE).read_text())
        stages = {name: Ran(**values) for name, values in record.pop("stages").items()}
        names = record.pop("machines")
        return Ledger(**record, stages=stages, machines=None if names is None else tuple(names))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(
            f"environment {folder.name!r}: what it was declared as is not in {folder / _FILE} "
            f"({type(error).__name__}: {error}); it never came up whole, or is of another version "
            "of pytest-carthage; try: build it anew"
        ) from error


def note_stage(folder: Path, stage: Stage, value: object) -> None:
    """A stage has run to its end, and has returned a value.

    :raises StateError: the ledger cannot be read.
    :raises OSError: there is no room for it.
    """
    ledger = read(folder)
    ran = Ran(key=stage.key, at_s=clock.unix_s(), has_value=_is_plain(value), value=None)
    if ran.has_value:
        ran = replace(ran, value=value)
    _write(folder, replace(ledger, stages={**ledger.stages, stage.name: ran}))


def forget_stage(folder: Path, name: str) -> None:
    """A stage that has run begins anew: what it did before counts no more.

    :raises StateError: the ledger cannot be read.
    :raises OSError: there is no room for it.
    """
    ledger = read(folder)
    if name in ledger.stages:
        rest = {each: ran for each, ran in ledger.stages.items() if each != name}
        _write(folder, replace(ledger, stages=rest))


def _is_plain(value: object) -> bool:
    """Whether a value comes back from JSON as what it was."""
    try:
        return bool(json.loads(json.dumps(value)) == value) and not isinstance(value, tuple)
    except (TypeError, ValueError, RecursionError):
        return False


def keep_members(folder: Path, plan: Plan) -> list[str]:
    """Write who is in an environment now; returns complaints of machines that cannot be written.

    :raises StateError: the ledger cannot be read.
    :raises OSError: there is no room for it.
    """
    ledger = read(folder)
    joined: dict[str, bytes] = {}
    complaints: list[str] = []
    for name, planned in plan.machines.items():
        if name in ledger.declared["machines"]:
            continue
        try:
            joined[name] = _dump(planned)
        except Exception as error:
            complaints.append(
                f"machine {name!r}, which was added, cannot be taken up again later: "
                f"{type(error).__name__}: {error}"
            )
    (folder / _JOINED).write_bytes(pickle.dumps(joined))
    _write(folder, replace(ledger, machines=tuple(plan.machines)))
    return complaints


def members(folder: Path, ledger: Ledger, plan: Plan) -> tuple[Plan, list[str]]:
    """A plan with those who are in an environment now; and what could not be taken up."""
    if ledger.machines is None:
        return plan, []
    complaints: list[str] = []
    machines: dict[str, PlannedMachine] = {}
    try:
        joined: dict[str, bytes] = pickle.loads((folder / _JOINED).read_bytes())
    except FileNotFoundError:
        joined = {}
    for name in ledger.machines:
        if name in plan.machines:
            machines[name] = plan.machines[name]
        elif name in joined:
            try:
                machines[name] = _load(joined[name])
            except Exception as error:
                complaints.append(
                    f"machine {name!r}, which was added, cannot be taken up: "
                    f"{type(error).__name__}: {error}"
                )
        else:
            complaints.append(f"machine {name!r}, which was added, is not written down")
    return replace(plan, machines=MappingProxyType(machines)), complaints


def file_of(layout: type[Declaration]) -> str:
    """The file that has a layout; empty: there is none."""
    try:
        return str(Path(inspect.getfile(layout)).resolve())
    except (OSError, TypeError):
        return ""


def _write(folder: Path, ledger: Ledger) -> None:
    path = folder / _FILE
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(ledger), indent=1))
    new.replace(path)


# A machine that was added has roles and images of the author's, whose modules have other names in
# other processes: classes and functions are known by their files.


def _proxy(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    """``mappingproxy`` has a name of its own that leads nowhere."""
    return MappingProxyType(values)


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> tuple[str, str, str] | None:
        if not isinstance(value, type | FunctionType) or "<" in value.__qualname__:
            return None
        module = sys.modules.get(value.__module__)
        file = getattr(module, "__file__", None)
        return (value.__module__, file, value.__qualname__) if file else None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, MappingProxyType):
            return _proxy, (dict(value),)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, known: Any) -> Any:
        name, file, qualname = known
        module = sys.modules.get(name)
        if getattr(module, "__file__", None) != file:
            module = next(
                (m for m in tuple(sys.modules.values()) if getattr(m, "__file__", None) == file),
                None,
            ) or importlib.import_module(name)
        value: Any = module
        for part in qualname.split("."):
            value = getattr(value, part)
        return value


def _dump(planned: PlannedMachine) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream).dump(planned)
    return stream.getvalue()


def _load(data: bytes) -> PlannedMachine:
    return cast("PlannedMachine", _Unpickler(io.BytesIO(data)).load())
