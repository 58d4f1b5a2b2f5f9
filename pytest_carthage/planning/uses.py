"""What a function of an author's will ask of machines, as its source text tells.

Only what is certain is told: a call that is reached whenever the function is, on a machine that is
named there. What stands in a branch, a loop or a ``try``, or behind something that may have looked
at the machine before, is left to be found out when it happens.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pytest_carthage.handles.capability import OF_SOCKETS, Capability
from pytest_carthage.model.keys.source import source_of
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.planning.traits import Traits

__all__ = [
    "OF_LAYOUT",
    "OF_MACHINE",
    "Use",
    "is_ruled_out",
    "uses_of_layout",
    "uses_of_machine",
]

#: operation of a machine to what it has to be able to do
OF_MACHINE: Mapping[str, Capability] = MappingProxyType(
    {
        "connect": "connect",
        "console": "console",
        "crash": "power",
        "freeze": "freeze",
        "get": "files",
        "logs": "logs",
        "observe": "observe",
        "ping": "echo",
        "plug_disk": "plug",
        "put": "files",
        "read_text": "files",
        "reboot": "power",
        "reset": "reset",
        "restart": "power",
        "revert": "snapshots",
        "run": "run",
        "screen_text": "screen",
        "screenshot": "screen",
        "send_keys": "screen",
        "snapshot": "snapshots",
        "socket": "socket",
        "stop": "power",
        "unplug_disk": "plug",
        "write_text": "files",
    }
)
#: operation of a layout to what each machine that it is given has to be able to do
OF_LAYOUT: Mapping[str, Capability] = MappingProxyType({"gate": "links", "partition": "links"})

#: who mentions one of these looks at what a machine can do, or waits for the refusal
_KNOWING = frozenset({"UnsupportedError", "can", "require"})
#: calls that may end a function
_ENDING = frozenset({"exit", "fail", "getfixturevalue", "importorskip", "skip", "xfail"})
_BRANCHES = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match),
    *(ast.With, ast.AsyncWith),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A call in an author's function that a machine has to be able to answer."""

    machine: str
    capability: Capability
    #: as in ``web.freeze()``
    call: str
    place: Place


def is_ruled_out(traits: Traits, use: Use) -> bool:
    """Whether no machine of a target can answer a call; who gives sockets can do more with them."""
    if use.capability in OF_SOCKETS and traits.can("socket"):
        return False
    return not traits.can(use.capability)


@dataclass(frozen=True, slots=True)
class _Thing:
    """What a name of the function stands for: the layout, or a machine."""

    kind: Literal["layout", "machine"]
    name: str = ""


class _End(Exception):
    """What comes behind this is not certain."""


def uses_of_layout(
    function: Callable[..., Any], parameter: str, machines: Collection[str]
) -> Sequence[Use]:
    """What a function that is given a layout asks of its machines, in the order of its lines.

    :param parameter: of the function, that is the live layout.
    :param machines: names of the machines that the layout has.
    """
    return _read(function, {parameter: _Thing("layout")}, machines)


def uses_of_machine(function: Callable[..., Any], parameter: str, machine: str) -> Sequence[Use]:
    """What a function that is given a machine asks of it, in the order of its lines.

    :param parameter: of the function, that is the machine's handle.
    """
    return _read(function, {parameter: _Thing("machine", machine)}, ())


def _read(
    function: Callable[..., Any], things: dict[str, _Thing], machines: Collection[str]
) -> Sequence[Use]:
    plain = inspect.unwrap(function)
    code = getattr(plain, "__code__", None)
    if code is None or _KNOWING.intersection(code.co_names):
        return ()
    try:
        (definition,) = ast.parse(source_of(plain)).body
    except (SyntaxError, ValueError):  # it is not as it was made, or stands within a line
        return ()
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        return ()
    reader = _Reader(things, machines, code.co_filename, code.co_firstlineno)
    with contextlib.suppress(_End):
        reader.follow(definition.body)
    return reader.uses


class _Reader:
    """Follows statements as they are carried out."""

    def __init__(
        self, things: dict[str, _Thing], machines: Collection[str], file: str, line: int
    ) -> None:
        self.uses: list[Use] = []
        self._things = dict(things)
        self._machines = machines
        self._file = file
        self._line = line

    def follow(self, statements: Sequence[ast.stmt]) -> None:
        """Follow statements, one of which is behind the other.

        :raises _End: what comes behind them is not certain.
        """
        for statement in statements:
            self._follow(statement)

    def _follow(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Expr(value=value):
                self._look(value)
                if self._is_foreign_call(value):
                    raise _End  # it may skip, or never return
            case ast.Assign(targets=targets, value=value):
                self._look(value)
                self._name(targets, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._look(value)
                self._name([target], value)
            case ast.Assert(test=value) | ast.AugAssign(value=value):
                self._look(value)
                self._forget(statement)
            case ast.Return(value=value):
                if value is not None:
                    self._look(value)
                raise _End
            case ast.Raise():
                raise _End
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body) if all(
                self._is_ours(item.context_expr) for item in items
            ):
                for item in items:
                    self._look(item.context_expr)
                    if item.optional_vars is not None:
                        self._forget(item.optional_vars)
                self.follow(body)
            case _ if isinstance(statement, _BRANCHES):
                if any(self._may_end(node) for node in ast.walk(statement)):
                    raise _End
                self._forget(statement)
            case _:
                self._forget(statement)

    def _look(self, node: ast.AST) -> None:
        """Note the calls in an expression that are made whenever it is evaluated."""
        match node:
            case ast.BoolOp(values=[first, *_]) | ast.IfExp(test=first):
                self._look(first)
                return
            case ast.Lambda() | ast.GeneratorExp() | ast.ListComp() | ast.SetComp():
                return
            case ast.DictComp():
                return
            case ast.NamedExpr(target=target):
                self._forget(target)
        for child in ast.iter_child_nodes(node):
            self._look(child)
        if isinstance(node, ast.Call):
            self._note(node)
            if not self._is_ours(node) and (
                _name_of(node) in _ENDING or any(self._mentions(part) for part in _given(node))
            ):
                raise _End  # who was given it may have looked at what it can do

    def _note(self, call: ast.Call) -> None:
        if not isinstance(call.func, ast.Attribute):
            return
        name, owner = call.func.attr, self._thing(call.func.value)
        if owner is None:
            return
        place = Place(file=self._file, line=self._line + call.lineno - 1)
        if owner.kind == "machine":
            if (capability := OF_MACHINE.get(name)) is not None:
                sentence = f"{owner.name}.{name}()"
                self.uses.append(
                    Use(machine=owner.name, capability=capability, call=sentence, place=place)
                )
        elif name == "remove":
            raise _End  # another machine may get that name
        elif (capability := OF_LAYOUT.get(name)) is not None:
            for machine in dict.fromkeys(self._named(call)):
                self.uses.append(
                    Use(machine=machine, capability=capability, call=f"{name}()", place=place)
                )

    def _named(self, call: ast.Call) -> Iterator[str]:
        """Machines that a layout's operation is given, as handles or names."""
        for argument in call.args:
            members = argument.elts if isinstance(argument, ast.Set | ast.Tuple | ast.List) else ()
            for member in members or (argument,):
                thing = self._thing(member)
                if thing is not None and thing.kind == "machine":
                    yield thing.name
                elif isinstance(member, ast.Constant) and member.value in self._machines:
                    yield str(member.value)

    # what names stand for

    def _thing(self, node: ast.expr) -> _Thing | None:
        """What an expression is; None: nothing that is known here."""
        match node:
            case ast.Name(id=name):
                return self._things.get(name)
            case ast.Attribute(value=value, attr="aio" | "sync"):
                return self._thing(value)
            case (
                ast.Attribute(value=value, attr=str(name))
                | ast.Subscript(value=value, slice=ast.Constant(value=str(name)))
            ):
                owner = self._thing(value)
                if owner is not None and owner.kind == "layout" and name in self._machines:
                    return _Thing("machine", name)
        return None

    def _is_ours(self, node: ast.expr) -> bool:
        """Whether an expression begins with the layout or a machine."""
        while isinstance(node, ast.Await | ast.Attribute | ast.Subscript | ast.Call):
            node = node.func if isinstance(node, ast.Call) else node.value
        return isinstance(node, ast.Name) and node.id in self._things

    def _is_foreign_call(self, node: ast.expr) -> bool:
        node = node.value if isinstance(node, ast.Await) else node
        return isinstance(node, ast.Call) and not self._is_ours(node)

    def _mentions(self, node: ast.AST) -> bool:
        return any(
            isinstance(inner, ast.Name) and inner.id in self._things for inner in ast.walk(node)
        )

    def _may_end(self, node: ast.AST) -> bool:
        """Whether what comes behind a branch that has this may never be reached."""
        if isinstance(node, ast.Return | ast.Raise):
            return True
        return isinstance(node, ast.Call) and not self._is_ours(node)

    def _name(self, targets: Sequence[ast.expr], value: ast.expr) -> None:
        """Take in an assignment."""
        thing = self._thing(value)
        for target in targets:
            self._forget(target)
            if isinstance(target, ast.Name) and thing is not None:
                self._things[target.id] = thing

    def _forget(self, node: ast.AST) -> None:
        """Names that stand for something else from now on."""
        for inner in ast.walk(node):
            match inner:
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                    self._things.pop(name, None)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    self._things.pop(name, None)
                case ast.ClassDef(name=name) | ast.alias(asname=str(name)) | ast.alias(name=name):
                    self._things.pop(name, None)


def _name_of(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _given(call: ast.Call) -> Iterator[ast.expr]:
    yield from call.args
    for keyword in call.keywords:
        yield keyword.value
