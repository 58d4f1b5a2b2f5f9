"""What becomes of one random declaration: planned and usable, or refused in words of ours."""

from __future__ import annotations

import ipaddress
import json
import re
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_carthage
from pytest_carthage import LayoutError, Role, roles
from pytest_carthage.errors import CarthageError, printable
from pytest_carthage.model import machine as conditions
from pytest_carthage.model.image import Healthcheck
from pytest_carthage.placing.specs import machine_spec, network_specs
from pytest_carthage.planning import extend_plan, make_plan, waves
from pytest_carthage.planning.plan import Plan
from pytest_carthage.planning.sketch import recall, sketch
from pytest_carthage.report import drawing
from pytest_carthage.work.ansible.inventory import inventory
from pytest_carthage.work.ansible.record import to_json
from tests.endurance.author import Program
from tests.endurance.nonsense import NAMES, BadWords, Hostile
from tests.endurance.theirs import Theirs, a_task

__all__ = ["Trial", "attempt"]

_FILE = "author.py"
_LONGEST_MESSAGE = 4000
_LONGEST_STRING = 128 << 10  # MAX_ARG_STRLEN, linux/binfmts.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How it ended."""

    #: None: it was refused
    plan: Plan | None = None
    layout: Any = None
    #: what is wrong with that, in a word; empty: nothing
    fault: str = ""
    #: where in the package, as in ``role.py:77 _listed``
    place: str = ""
    message: str = ""

    @property
    def group(self) -> str:
        """What failures have in common that are one."""
        return f"{self.fault} at {self.place}"


def _names() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "author", **NAMES}
    names |= {name: getattr(pytest_carthage, name) for name in pytest_carthage.__all__}
    names |= {name: getattr(roles, name) for name in roles.__all__}
    names |= {name: getattr(conditions, name) for name in ("Condition", "rebooted", "exited")}
    names |= {name: getattr(ipaddress, name) for name in ipaddress.__dict__ if name[:2] == "IP"}
    return names | {"Theirs": Theirs, "a_task": a_task, "Healthcheck": Healthcheck, "Role": Role}


_NAMES = _names()


def attempt(program: Program) -> Trial:
    """Declare, plan, and use what was accepted."""
    scope = dict(_NAMES)
    step = "declaring"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(str(program), _FILE, "exec"), scope)
            step = "planning"
            plan = make_plan(scope["layout"])
            step = "using"
            _use(plan)
            if "newcomer" in scope:
                step = "joining"
                scope |= {"plan": plan, "extend_plan": extend_plan}
                exec(compile("plan, _ = extend_plan(plan, *newcomer)", _FILE, "exec"), scope)
                plan = scope["plan"]
                step = "using"
                _use(plan)
    except LayoutError as error:
        wrong = next(_faults_of(error), "")
        return Trial(fault=wrong, place=_place(error) if wrong else "", message=str(error))
    except Exception as error:
        if step == "declaring" and (_is_authors(error) or " is the declaration, " in _text(error)):
            return Trial()  # by a line of the author's own, whatever it asks of which object
        fault = f"{type(error).__name__} while {step}"
        return Trial(fault=fault, place=_place(error), message=_text(error))
    return Trial(plan=plan, layout=scope["layout"])


def _faults_of(error: LayoutError) -> Iterator[str]:
    """What a refusal lacks."""
    text = str(error)
    if printable(text) != text:
        yield "unprintable refusal"
    if f"{_FILE}:" not in text:
        yield "refusal without a place"
    if "; try: " not in text:
        yield "refusal without a remedy"
    if len(text) > _LONGEST_MESSAGE:
        yield "endless refusal"
    cause = error.__cause__
    if "cannot be read: " in text and not isinstance(cause, Hostile | BadWords):
        yield f"{type(cause).__name__} that nobody foresaw"


def _use(plan: Plan) -> None:
    """Whatever is done with a plan before anything is built."""
    described = sketch(plan)
    text = json.dumps(described, allow_nan=False)
    text.encode()
    again = recall(json.loads(text))
    for draw in (drawing.text, drawing.mermaid, drawing.svg):
        if draw(again) != (drawn := draw(plan)):
            raise AssertionError(f"{draw.__name__} differs after a round trip")
        _check_text(drawn)
    if sorted(name for batch in waves(plan) for name in batch) != sorted(plan.machines):
        raise AssertionError("a machine is in no batch, or in two")
    network_specs(plan)
    for machine in plan.machines.values():
        spec = machine_spec(machine, "process", Path("/logs"), "group")
        json.dumps(spec, allow_nan=False)
        _check_words(spec["env"], spec["command"] or ())
        _check_text(plan.hosts_file(machine.networks))
    for image in plan.images.values():
        _ = image.key, image.base_key, image.origin, image.archive, image.all_packages
        _check_text(f"{image.name} {image.origin} {[one.title for one in image.steps]}")
    record = inventory(plan, socket=Path("/socket"), interpreters=None)
    json.loads(to_json(record, "inventory"), parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} in the inventory")


def _check_text(text: str) -> None:
    if printable(text) != text:
        odd = re.search(r".{0,20}[^\x20-\x7e\n\t].{0,20}", ascii(text))
        raise AssertionError(f"control characters are drawn: {ascii(text)[:200]} {odd}")


def _check_words(env: Any, words: Any) -> None:
    """Whether execve(2) takes them."""
    strings = [*words, *(f"{name}={value}" for name, value in env.items())]
    for string in strings:
        if len(string.encode()) >= _LONGEST_STRING:
            raise AssertionError("a string longer than execve takes")
        if "\0" in string:
            raise AssertionError("a null byte for execve")
    if sum(len(string.encode()) + 9 for string in strings) > 2 << 20:
        raise AssertionError("more than execve takes")


def _is_authors(error: BaseException) -> bool:
    """Whether no frame of the package is between the author's lines."""
    return not any("pytest_carthage/" in file for file in _files(error))


def _files(error: BaseException) -> list[str]:
    return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]


def _place(error: BaseException) -> str:
    """The innermost line of the package that an error has passed."""
    looked: BaseException | None = error
    while isinstance(looked, CarthageError) and looked.__cause__ is not None:
        looked = looked.__cause__
    trace = (looked or error).__traceback__
    frames = [one for one in traceback.extract_tb(trace) if "pytest_carthage" in one.filename]
    if not frames:
        return re.sub(r"'[^']*'|[0-9]+", "_", _text(error))[:80]
    last = frames[-1]
    return f"{Path(last.filename).name}:{last.lineno} {last.name}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its own text fails)"
