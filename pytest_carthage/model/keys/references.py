"""What a function depends on: its own text, and that of all that it refers to.

These are functions, classes and constants of the author's own code, wherever in it they are; what
it has closed over, its defaults and decorators; and of a method, what it uses of its class. Code
that was installed (the standard library, what is in ``site-packages``, this package) counts by its
name only, unless the function itself is there, too.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from pytest_carthage.model.keys.key import Unkeyed, content, module_of
from pytest_carthage.model.keys.source import source_of

__all__ = ["function_content"]

_OWN = Path(__file__).resolve().parents[2]
_STDLIB = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
_INSTALLED = ("site-packages", "dist-packages")
#: values of the standard library that are what their attributes are
_OPEN = ("string", "types", "collections", "re")
#: and those that are what they are printed as
_TOLD = ("ipaddress", "datetime", "decimal", "uuid", "zoneinfo")
#: what computes the annotations of a class, from Python 3.14 on
_OF_ANNOTATIONS = ("__annotate__", "__annotate_func__")
#: where these are used, so is that of its class
_IMPLIED = {"ansible": ("groups",)}


def function_content(function: Callable[..., Any], role: object = None) -> list[Any]:
    """A function with all that it refers to in the author's own code, as JSON can hold it.

    :param role: what it is a method of, perhaps of a base of its class.
    """
    references = _References()
    references.take_function(function, None if role is None else type(role))
    if role is not None:
        # the key has their values already: what they can do is missing
        names = [one.name for one in fields(role)] if is_dataclass(role) else ()
        for name in names:
            value = getattr(role, name)
            references.note(f"{type(role).__qualname__}.{name}", value, _anchor_of(function))
    return [[name, references.found[name]] for name in sorted(references.found)]


class _References:
    """What was found so far, by names that are the same in every process."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        #: with what keeps it alive: numbers of objects are given anew
        self._seen: dict[tuple[int, int], object] = {}
        #: containers that are being looked into
        self._inside: set[int] = set()

    def take_function(self, function: Any, owner: type | None) -> None:
        """Take in a function, what it wraps, and what they refer to."""
        first = _unwrapped(function)
        anchor = _anchor_of(first)
        for wrapped in _wrapped(function):
            if isinstance(wrapped, FunctionType) and (wrapped is first or _is_own(wrapped, anchor)):
                self._take(wrapped, owner)

    def _take(self, function: FunctionType, owner: type | None) -> None:
        if not self._is_new(function, owner):
            return
        name = self._name(f"{module_of(function)}.{function.__qualname__}")
        self.found[name] = _hash(source_of(function))
        code, anchor = function.__code__, _anchor_of(function)
        scope = dict(function.__globals__)
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                scope[variable] = cell.cell_contents
            except ValueError:  # not bound yet
                continue
        used = _used(code)
        modules = [*_imported(used, function, anchor)]
        for variable_name in sorted(used.names):
            # of the file's own place, and what pytest puts there
            if variable_name not in scope or (
                variable_name.startswith("__") and variable_name.endswith("__")
            ):
                continue
            if isinstance(scope[variable_name], ModuleType):
                modules.append(scope[variable_name])
            else:
                self.note(f"{name}:{variable_name}", scope[variable_name], anchor, owner)
        self._take_from(modules, used, name, anchor, owner)
        for kind in ("__defaults__", "__kwdefaults__"):
            if value := getattr(function, kind):
                self.note(f"{name}:{kind}", value, anchor, owner)
        if owner is not None:
            self._take_members(used, owner, anchor)

    def _take_from(
        self,
        modules: Sequence[ModuleType],
        used: _Used,
        name: str,
        anchor: Path,
        owner: type | None,
    ) -> None:
        """Take in what is used of modules of the author's own."""
        left, taken = list(modules), set()
        while left:
            module = left.pop(0)
            if id(module) in taken or not _is_own_module(module, anchor):
                continue
            taken.add(id(module))
            for attribute in sorted(used.attributes & vars(module).keys()):
                value = vars(module)[attribute]
                if isinstance(value, ModuleType):
                    left.append(value)
                else:
                    label = f"{name}:{module.__name__.rpartition('.')[2]}.{attribute}"
                    self.note(label, value, anchor, owner)

    def _take_members(self, used: _Used, owner: type, anchor: Path) -> None:
        """Take in what a method uses of its class."""
        wanted = set(used.attributes)
        for member, more in _IMPLIED.items():
            if member in used.attributes:
                wanted.update(more)
        parameters = getattr(owner, "__dataclass_fields__", {})
        if "template" in used.attributes:  # templates have the role, too
            for cls in owner.__mro__:
                if _is_own(cls, anchor):
                    wanted.update(n for n, one in vars(cls).items() if _is_for_templates(one))
        for member in sorted(wanted):
            if member.startswith("__") or member in parameters:
                continue  # a field's value is the role's own content
            there = [cls for cls in owner.__mro__ if member in vars(cls)]
            for cls in there if "super" in used.names else there[:1]:
                self.note(f"{cls.__qualname__}.{member}", vars(cls)[member], anchor, owner)

    def take_class(self, cls: type, anchor: Path) -> None:
        """Take in a class, its own bases, and what its methods refer to."""
        if not self._is_new(cls, None):
            return
        name = self._name(f"{module_of(cls)}.{cls.__qualname__}")
        self.found[name] = _hash(source_of(cls))
        for base in cls.__bases__:
            if _is_own(base, anchor):
                self.take_class(base, anchor)
        for member, value in _members(cls):
            self.note(f"{name}.{member}", value, anchor, cls)
        for field in fields(cls) if is_dataclass(cls) else ():
            for value in (field.default, field.default_factory):
                self.note(f"{name}.{field.name}", value, anchor, cls)

    def note(self, name: str, value: Any, anchor: Path, owner: type | None = None) -> None:
        """Take in a value under a name, where there is something to tell of it."""
        noted = self._told(value, anchor, owner)
        if noted is not None:
            self.found[self._name(name)] = noted

    def _told(self, value: Any, anchor: Path, owner: type | None) -> Any:
        """A value as JSON can hold it; None: nothing that counts."""
        function = _function_in(value)
        if function is not None:
            if _is_own(_unwrapped(function), anchor) or _is_own(function, anchor):
                self.take_function(function, owner)
            return None
        if isinstance(value, ModuleType):
            return None
        if isinstance(value, type):
            if _is_own(value, anchor):
                self.take_class(value, anchor)
            return None
        if isinstance(value, str):
            return _near(value, anchor)
        if id(value) in self._inside:
            return "again"
        self._inside.add(id(value))
        try:
            return self._told_inside(value, anchor, owner)
        finally:
            self._inside.discard(id(value))

    def _told_inside(self, value: Any, anchor: Path, owner: type | None) -> Any:
        if isinstance(value, list | tuple | set | frozenset):
            listed = [self._told(one, anchor, owner) for one in value]
            unordered = isinstance(value, set | frozenset)
            return sorted(listed, key=repr) if unordered else listed
        if isinstance(value, dict) or type(value).__name__ == "mappingproxy":
            pairs = [
                [self._told(one, anchor, owner) for one in pair] for pair in dict(value).items()
            ]
            return ["mapping", sorted(pairs, key=repr)]
        if isinstance(value, re.Pattern):
            return ["pattern", str(value.pattern), int(value.flags)]
        if isinstance(value, functools.partial | functools.partialmethod):
            parts = (value.func, value.args, value.keywords)
            return ["partial", *(self._told(one, anchor, owner) for one in parts)]
        cls = type(value)
        if isinstance(value, Enum):
            self._told(cls, anchor, None)
            return [cls.__qualname__, value.name, self._told(value.value, anchor, owner)]
        state: Mapping[str, Any]
        if is_dataclass(value):
            self._told(cls, anchor, None)
            state = {one.name: getattr(value, one.name, None) for one in _compared(value)}
        elif _is_own(cls, anchor):
            self.take_class(cls, anchor)
            state = _state(value)
        elif isinstance(value, SimpleNamespace) or (
            cls.__module__ in _OPEN and hasattr(value, "__dict__")
        ):
            state = vars(value)
        else:
            return _plain(value, anchor)
        attributes = {name: self._told(one, anchor, owner) for name, one in state.items()}
        return [cls.__qualname__, attributes]

    def _is_new(self, thing: object, owner: type | None) -> bool:
        key = id(thing), id(owner)
        is_known = key in self._seen
        self._seen[key] = thing, owner
        return not is_known

    def _name(self, wanted: str) -> str:
        """A name that is not taken: lambdas, and functions made by one function, share theirs."""
        name, number = wanted, 1
        while name in self.found:
            number += 1
            name = f"{wanted}#{number}"
        return name


@dataclass(frozen=True, slots=True)
class _Used:
    """What the code of a function uses, that inside of it, too."""

    #: of the module, or closed over
    names: frozenset[str]
    #: of any object
    attributes: frozenset[str]
    #: its own import statements: level, module, names
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]


@functools.lru_cache(maxsize=4096)
def _used(code: CodeType) -> _Used:
    names, attributes = set(code.co_freevars), set[str]()
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    last: list[Any] = [0, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_CONST", "LOAD_SMALL_INT"):
            last = [last[1], instruction.argval]
        elif instruction.opname == "IMPORT_NAME":
            taken = last[1] if isinstance(last[1], tuple) else ()
            imports.append((last[0] or 0, instruction.argval, taken))
            attributes.update(taken)
        elif instruction.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER")):
            attributes.add(instruction.argval)
        elif instruction.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT")):
            names.add(instruction.argval)
    if names & {"getattr", "hasattr", "attrgetter", "methodcaller"}:
        attributes.update(one for one in code.co_consts if isinstance(one, str))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _used(constant)
            names |= inner.names
            attributes |= inner.attributes
            imports += inner.imports
    return _Used(frozenset(names), frozenset(attributes), tuple(imports))


def _imported(used: _Used, function: FunctionType, anchor: Path) -> Iterator[ModuleType]:
    """Modules of the author's own that a function imports by itself, and those it names of them.

    They are imported here, as the function will: its key is not to depend on whether they were.
    """
    package = function.__globals__.get("__package__") or ""
    for level, name, taken in used.imports:
        try:
            full = importlib.util.resolve_name("." * level + name, package) if level else name
            top = full.partition(".")[0]
            if top not in sys.modules:
                spec = importlib.util.find_spec(top)
                places = [] if spec is None else [spec.origin, *_places(spec)]
                if not any(place and _is_own_file(place, anchor) for place in places):
                    continue
            elif not _is_own_module(sys.modules[top], anchor):
                continue
            module = importlib.import_module(full)
        except Exception:  # it is not there, or wrong: the task will say so
            continue
        yield sys.modules[top]
        yield module
        for submodule in taken:
            if not hasattr(module, submodule):
                try:
                    yield importlib.import_module(f"{full}.{submodule}")
                except Exception:
                    continue


def _places(spec: Any) -> Iterable[str]:
    return spec.submodule_search_locations or ()


def _wrapped(function: Any) -> Iterator[Any]:
    visited: set[int] = set()
    while function is not None and id(function) not in visited:
        visited.add(id(function))
        yield function
        function = getattr(function, "__wrapped__", None)


def _function_in(value: Any) -> Any:
    """The function that a value is, or is made of."""
    if isinstance(value, property):
        return value.fget
    if isinstance(value, staticmethod | classmethod | MethodType):
        return value.__func__
    if isinstance(value, functools.cached_property):
        return value.func
    if _is_task(value):
        return value.function
    if isinstance(value, FunctionType):
        return value
    if isinstance(value, type):
        return None
    inner = _unwrapped(value) if callable(value) else None
    return value if isinstance(inner, FunctionType) else None


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """What a class has of its own, without what Python keeps there."""
    own = sorted(vars(cls).items())
    if issubclass(cls, Enum):
        yield from sorted(cls.__members__.items())
        own = [(name, one) for name, one in own if isinstance(one, FunctionType | property)]
    for name, member in own:
        if name in _OF_ANNOTATIONS:
            continue  # a class's own text has them
        is_special = name.startswith("__") and not isinstance(_function_in(member), FunctionType)
        if isinstance(member, property) or not (is_special or inspect.isdatadescriptor(member)):
            yield name, member


def _is_for_templates(value: object) -> bool:
    """Whether a template can make something of this member of a role."""
    return not (_is_task(value) or inspect.iscoroutinefunction(value))


def _is_task(value: object) -> bool:
    return getattr(type(value), "is_task", None) is True


def _unwrapped(value: Any) -> Any:
    """What it wraps; itself where it pretends to have every attribute, as proxies do."""
    try:
        return inspect.unwrap(value)
    except ValueError:
        return value


def _anchor_of(function: Any) -> Path:
    """The folder of the file that a function is in."""
    return Path(inspect.unwrap(function).__code__.co_filename).parent


def _is_own(value: Any, anchor: Path) -> bool:
    """Whether a function or class is of the author's own code, or beside what refers to it."""
    code = getattr(value, "__code__", None)
    if isinstance(code, CodeType):  # the class of all functions has an attribute of that name, too
        return _is_own_file(code.co_filename, anchor)
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is not None:
        return _is_own_module(module, anchor)
    try:  # a conftest's module may be known by no name
        return _is_own_file(inspect.getsourcefile(_method_of(value)) or "", anchor)
    except TypeError:
        return False


def _method_of(cls: type) -> Any:
    return next((one for one in vars(cls).values() if isinstance(one, FunctionType)), cls)


def _is_own_module(module: ModuleType, anchor: Path) -> bool:
    file = getattr(module, "__file__", None)
    places = [file] if file else list(getattr(module, "__path__", ()))
    return any(_is_own_file(place, anchor) for place in places)


@functools.lru_cache(maxsize=4096)
def _is_own_file(file: str, anchor: Path) -> bool:
    path = Path(file)
    if path.is_relative_to(anchor):
        return True
    if not path.is_absolute() or any(name in _INSTALLED for name in path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in (*_STDLIB, _OWN))


def _compared(value: Any) -> list[Any]:
    return [one for one in fields(value) if one.compare]


def _state(value: object) -> Mapping[str, Any]:
    """Attributes of an object."""
    attributes = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                attributes[name] = getattr(value, name)
    return attributes


def _plain(value: Any, anchor: Path) -> Any:
    if isinstance(value, range | complex | slice | type(...)):
        return repr(value)
    is_plain = isinstance(value, bytes | int | float | PurePath)
    if not is_plain and type(value).__module__ not in _TOLD:
        return None  # a logger, a lock: no constant
    try:
        return content(value, anchor.absolute())
    except Unkeyed:
        return None


def _near(text: str, anchor: Path) -> Any:
    """Text; where it is a path near the function, as one that may be moved together with it."""
    if text.startswith("/") and Path(text).is_relative_to(anchor.parent):
        return ["path", os.path.relpath(text, anchor)]
    return text


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
