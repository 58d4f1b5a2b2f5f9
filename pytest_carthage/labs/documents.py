"""Documents in YAML whose values know their lines, and of which nothing is left out unsaid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_carthage.errors import HostError, LayoutError, Problem
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place

__all__ = ["Block", "Lined", "Remark", "read"]

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|"
    r"\{(?P<name>[A-Za-z_]\w*)(?:(?P<kind>:?[-=?+])(?P<word>[^}]*))?\})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something of a lab that a layout does not have, or has otherwise."""

    place: Place
    what: str

    def __str__(self) -> str:
        return f"{Path(self.place.file).name}:{self.place.line}: {self.what}"


class Lined(dict[str, Any]):
    """A mapping, with the line of each key."""

    def __init__(self, values: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(values)
        self.lines: dict[str, int] = {}


@dataclass(slots=True, kw_only=True)
class Block:
    """A mapping of a document, which remembers what of it has been taken."""

    #: whose it is, as in ``"node 'leaf'"``; empty: the document's
    who: str
    file: Path
    line: int
    values: Mapping[str, Any]
    remarks: list[Remark]
    _taken: set[str] = field(default_factory=set)

    def place(self, key: str = "") -> Place:
        """Where it stands, or where a key of it does."""
        lines: Mapping[str, int] = getattr(self.values, "lines", {})
        return Place(file=str(self.file), line=lines.get(key, self.line))

    def mistake(self, key: str, what: str, remedy: str) -> LayoutError:
        """The error about a value."""
        place = self.place(key)
        return Mistake(what=what, remedy=remedy, place=place).error(self.who or self.file.name)

    def remark(self, key: str, what: str) -> None:
        """Say that something is not taken as it is."""
        subject = f"{self.who}: " if self.who else ""
        self.remarks.append(Remark(place=self.place(key), what=f"{subject}{what}"))

    def take(self, key: str) -> Any:
        """A value as it is; None: there is none."""
        self._taken.add(key)
        return self.values.get(key)

    def text(self, key: str) -> str | None:
        """A text, or a number as one."""
        value = self.take(key)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int | float):
            return str(value)
        raise self.mistake(key, f"{key} is {value!r} instead of a text", f"{key}: text")

    def texts(self, key: str) -> list[str]:
        """Texts in a list, or one by itself."""
        value = self.take(key)
        if value is None:
            return []
        if isinstance(value, str | int | float):
            return [str(value)]
        if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
            return [str(one) for one in value]
        raise self.mistake(key, f"{key} is {value!r} instead of a list of texts", f"{key}: [text]")

    def words(self, key: str) -> list[str]:
        """Words of a command: a list, or a text that a shell would take apart."""
        value = self.take(key)
        if not isinstance(value, str):
            return self.texts(key)
        try:
            return shlex.split(value)
        except ValueError as error:
            raise self.mistake(
                key, f"{key} {value!r}: {error}", f'{key}: ["sleep", "1"]'
            ) from error

    def number(self, key: str) -> float | None:
        """A number, also one that is written as a text."""
        value = self.take(key)
        if value is None:
            return None
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self.mistake(
                key, f"{key} is {value!r} instead of a number", f"{key}: 2"
            ) from None

    def rows(self, key: str) -> list[Any]:
        """A list of whatever is in it."""
        value = self.take(key)
        if value is None or isinstance(value, list):
            return value or []
        raise self.mistake(key, f"{key} is {value!r} instead of a list", f"{key}: []")

    def pairs(self, key: str) -> dict[str, str | None]:
        """Names and texts: a mapping, or a list of ``NAME=TEXT``."""
        value = self.take(key)
        if isinstance(value, list):
            split = [str(one).partition("=") for one in value]
            return {name: text if equals else None for name, equals, text in split}
        if value is None or isinstance(value, dict):
            return {str(k): None if v is None else _plain(v) for k, v in (value or {}).items()}
        raise self.mistake(
            key, f"{key} is {value!r} instead of a mapping", f"{key}: {{NAME: text}}"
        )

    def block(self, key: str, who: str | None = None) -> Block:
        """A mapping in it; an empty one where there is none."""
        value = self.take(key)
        if value is not None and not isinstance(value, dict):
            raise self.mistake(key, f"{key} is {value!r} instead of a mapping", f"{key}: {{}}")
        return Block(
            who=self.who if who is None else who,
            file=self.file,
            line=self.place(key).line,
            values=value or {},
            remarks=self.remarks,
        )

    def blocks(self, key: str, kind: str) -> Iterator[tuple[str, Block]]:
        """Name to mapping, of all that are below a key."""
        inner = self.block(key)
        for name in inner.values:
            yield str(name), inner.block(name, f"{kind} {str(name)!r}")

    def leave(self) -> None:
        """Say what nobody has taken; names that begin with ``x-`` are their authors' own."""
        for key in self.values:
            if key not in self._taken and not str(key).startswith("x-"):
                self.remark(key, f"{key} is not understood")


def read(path: Path, remarks: list[Remark], *, variables: Mapping[str, str] | None = None) -> Block:
    """Read a document that is a mapping.

    :param variables: what ``$NAME`` and ``${NAME:-default}`` in texts stand for; None: for
        themselves.
    :raises LayoutError: it cannot be read, or is none.
    :raises HostError: PyYAML, the extra ``labs``, is not installed.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        what = f"{path.name} is YAML, which takes PyYAML"
        remedy = "pip install 'pytest-carthage[labs]'"
        raise HostError([Problem(who="labs", what=what, remedy=remedy)]) from error
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LayoutError(f"lab {path}: {error}; try: the path of a file that is there") from error

    def fill_in(value: str, line: int) -> str:
        if variables is None:
            return value
        return _filled_in(value, variables, Place(file=str(path), line=line), remarks)

    try:
        document = yaml.load(text, Loader=_loader(fill_in))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = Place(file=str(path), line=1 if mark is None else mark.line + 1)
        what = f"this is no YAML: {getattr(error, 'problem', None) or error}"
        raise Mistake(what=what, remedy="a YAML checker", place=place).error(path.name) from error
    block = Block(who="", file=path, line=1, values=document or {}, remarks=remarks)
    if not isinstance(document, dict):
        raise block.mistake("", "the document is no mapping", "name: value")
    return block


def _loader(fill_in: Callable[[str, int], str]) -> Any:
    """A loader of plain values, whose mappings have the lines of their keys.

    :param fill_in: gives what a text of a line is to be.
    """
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Reads plain values."""

    def mapping(loader: Any, node: Any) -> Iterator[Lined]:
        loader.flatten_mapping(node)
        made = Lined()
        yield made  # what refers to it while it is made has it already
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node, deep=True))
            made[key] = loader.construct_object(value_node, deep=True)
            made.lines[key] = key_node.start_mark.line + 1

    def text(loader: Any, node: Any) -> str:
        return fill_in(loader.construct_scalar(node), node.start_mark.line + 1)

    Loader.add_constructor("tag:yaml.org,2002:str", text)
    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return Loader


def _filled_in(text: str, variables: Mapping[str, str], place: Place, remarks: list[Remark]) -> str:
    """A text in which variables have their values; of the environment nothing is taken."""

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name, kind, word = match["plain"] or match["name"], match["kind"] or "", match["word"] or ""
        given = variables.get(name)
        is_set = given is not None and (given != "" or not kind.startswith(":"))
        if kind.endswith("+"):
            return word if is_set else ""
        if is_set:
            return given or ""
        if kind.endswith(("-", "=")):
            return word
        what = f"${name} is in no .env beside it, and empty: the environment is not taken over"
        remarks.append(Remark(place=place, what=what))
        return ""

    return _VARIABLE.sub(value, text)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
