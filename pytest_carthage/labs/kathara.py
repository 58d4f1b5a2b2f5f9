"""Labs of Kathará: ``lab.conf``, scripts of machines that start, and folders of their files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_carthage.errors import LayoutError
from pytest_carthage.labs.documents import Block, Lined, Remark
from pytest_carthage.labs.expressions import Call
from pytest_carthage.labs.lab import Here, Lab
from pytest_carthage.labs.memory import mebibytes
from pytest_carthage.labs.wiring import Node, Wire, join
from pytest_carthage.model.machine import Limits
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place

__all__ = ["read_kathara"]

#: what a machine is that names no image
_USUAL = "kathara/base"
_META = re.compile(r"LAB_[A-Z]+")
_OPTION = re.compile(r"(?P<machine>[\w.-]+)\[(?P<key>\w+)\]", re.ASCII)
_WIRE = re.compile(r"(?P<domain>\w+)(?:/(?P<mac>[0-9a-fA-F:]{17}))?", re.ASCII)
#: what makes lines of a script depend on each other
_DEPENDS = re.compile(
    r"^\s*(?:if|for|while|until|case|function|cd|export|source|set|exit|trap)\b|<<|\\$|^\s*\w+=|^\s*[.{}(]"
)
#: options that may be there several times
_SEVERAL = ("env", "sysctl", "exec", "port", "ulimit")


def read_kathara(folder: Path, here: Here) -> Lab:
    """Read a lab's folder.

    :raises LayoutError: something in it is wrong, with its line.
    """
    folder = folder.absolute()
    file = folder / "lab.conf"
    lab = Lab(
        kind="Kathará",
        file=file,
        title=folder.name,
        here=here,
    )
    blocks = _blocks(lab)
    lab.claim(blocks)
    wires: dict[str, Wire] = {}
    nodes = {name: _node(lab, name, block, wires) for name, block in blocks.items()}
    for name, others in _dependencies(folder).items():
        if name in nodes:
            nodes[name].after = others
    for other in ("lab.ext", "shared.shutdown", *(f"{name}.shutdown" for name in nodes)):
        if (folder / other).exists():
            what = f"{other} is not taken"
            lab.remarks.append(Remark(place=Place(file=str(folder / other), line=1), what=what))
    join(lab, nodes, [wires[domain] for domain in sorted(wires)])
    return lab


def _lines(path: Path) -> Iterator[tuple[Place, str]]:
    """Lines of a file that say something."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(f"lab {path}: {error}; try: a folder with a lab.conf") from error
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.partition("#")[0].strip() if '"' not in line else line.strip()
        if stripped and not stripped.startswith("#"):
            yield Place(file=str(path), line=number), stripped


def _blocks(lab: Lab) -> dict[str, Block]:
    """Name of a machine to its options."""
    blocks: dict[str, Block] = {}
    for place, line in _lines(lab.file):
        name, equals, text = line.partition("=")
        try:
            value = " ".join(shlex.split(text, comments=True))
        except ValueError as error:
            raise _mistake(place, f"{line!r}: {error}", 'name[0]="A"') from error
        if equals and _META.fullmatch(name.strip()):
            if name.strip() == "LAB_NAME":
                lab.title = value or lab.title
            continue
        match = _OPTION.fullmatch(name.strip())
        if not match or not equals:
            raise _mistake(place, f"{line!r} is no option of a machine", 'name[0]="A"')
        machine, key = match["machine"], match["key"]
        block = blocks.get(machine)
        if block is None:
            block = blocks[machine] = Block(
                who=f"machine {machine!r}",
                file=lab.file,
                line=place.line,
                values=Lined(),
                remarks=lab.remarks,
            )
        values: Any = block.values
        if key in _SEVERAL:
            values.setdefault(key, []).append(value)
        else:
            values[key] = value
        values.lines.setdefault(key, place.line)
    return blocks


def _mistake(place: Place, what: str, remedy: str) -> LayoutError:
    return Mistake(what=what, remedy=remedy, place=place).error("lab.conf")


def _node(lab: Lab, name: str, block: Block, wires: dict[str, Wire]) -> Node:
    folder = lab.file.parent
    files = [
        (folder / source, "/")
        for source in ("shared", name)
        if (folder / source).is_dir() and any((folder / source).iterdir())
    ]
    node = Node(
        name=name,
        place=block.place(),
        image=lab.image(block.text("image") or _USUAL, block.place("image"), files),
    )
    for key in [key for key in block.values if key.isdecimal()]:
        match = _WIRE.fullmatch(block.text(key) or "")
        if match is None:
            raise block.mistake(
                key, f"{block.text(key)!r} is no collision domain", f'{name}[0]="A"'
            )
        domain = match["domain"]
        wire = wires.setdefault(domain, Wire(wanted=domain.lower(), place=block.place(key)))
        node.links[f"eth{key}"] = wire
        if match["mac"]:
            node.macs[f"eth{key}"] = match["mac"].lower()
    if env := {key: text or "" for key, text in block.pairs("env").items()}:
        node.arguments["env"] = env
    limits: dict[str, Any] = {}
    if (cpus := block.number("cpus")) is not None:
        limits["cpus"] = cpus
    if memory := block.text("mem"):
        limits["memory_mib"] = mebibytes(block, "mem", memory)
    if limits:
        node.arguments["limits"] = Call(function=Limits, name="Limits", kwargs=limits)
    node.commands = [f"sysctl -w {text}" for text in block.texts("sysctl")]
    node.commands += block.texts("exec")
    for script in ("shared.startup", f"{name}.startup"):
        if (folder / script).exists():
            node.commands += _commands(folder / script)
    for key in ("num_terms", "shell", "ipv6"):  # terminals of people, and what we have anyway
        block.take(key)
    for key, why in (
        ("port", "machine.forward(PORT) leads to a port while a test wants it"),
        ("bridged", "a gate lets something out"),
    ):
        if block.take(key) is not None:
            block.remark(key, f"{key} is not taken: {why}")
    block.leave()
    return node


def _commands(script: Path) -> list[str]:
    """Commands of a script: its lines, and from one on that others depend on, the rest as one."""
    lines = script.read_text(encoding="utf-8").splitlines()
    commands: list[str] = []
    for number, line in enumerate(lines):
        if _DEPENDS.search(line):
            return [*commands, "\n".join(lines[number:]).strip()]
        if line.strip() and not line.lstrip().startswith("#"):
            commands.append(line.strip())
    return commands


def _dependencies(folder: Path) -> dict[str, list[str]]:
    """Name of a machine to those before it."""
    if not (folder / "lab.dep").exists():
        return {}
    rows = (line.partition(":") for _, line in _lines(folder / "lab.dep"))
    return {name.strip(): others.split() for name, _, others in rows}
