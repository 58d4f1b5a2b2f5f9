"""From what a person wrote (``PATH.py:Class``, a dotted name, a registered name) to a layout."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from pytest_carthage.errors import CarthageError, LayoutError
from pytest_carthage.live.layout import Layout
from pytest_carthage.model.mistakes.culprit import described

__all__ = ["GROUP", "Registered", "find", "load_file", "of_distributions"]

#: group of the entry points by which distributions register layouts
GROUP = "pytest_carthage.layouts"

Registered = Mapping[str, type[Layout] | str]


def of_distributions() -> dict[str, type[Layout] | str]:
    """List the layouts that installed distributions register by entry points; imports none."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=GROUP)}


def find(text: str, *, registered: Registered, folder: Path) -> type[Layout]:
    """Find the layout that a person means.

    :param text: ``PATH.py:Class``, ``PATH.py`` (with one layout in it), ``dotted.module:Class``,
        ``dotted.name.Class`` or a registered name.
    :param registered: name to layout, or to text that leads to one.
    :param folder: where relative paths begin.
    :raises LayoutError: there is none; says what there is.
    """
    path, colon, name = text.rpartition(":")
    if not colon:
        path, name = text, ""
    if path.endswith(".py"):
        return _in_file(text, (folder / path).resolve(), name)
    if text in registered:
        layout = registered[text]
        return _imported(layout, text) if isinstance(layout, str) else _checked(layout, text)
    if colon or "." in text:
        return _imported(text, text)
    there = ", ".join(sorted(registered)) or "none"
    raise LayoutError(
        f"unknown layout {text!r}; registered layouts: {there}; "
        "try one of these, or PATH.py:Class, or dotted.name.Class"
    )


def _layouts_in(module: ModuleType) -> list[str]:
    """Name the layouts that a module defines itself, or all it has where it defines none."""
    layouts = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Layout) and value is not Layout
    }
    own = [name for name, value in layouts.items() if value.__module__ == module.__name__]
    return own or list(layouts)


def _in_file(text: str, path: Path, name: str) -> type[Layout]:
    if not path.is_file():
        raise LayoutError(f"layout {text!r}: there is no file {path}; try a path that exists")
    module = load_file(path)
    return _attribute(module, name, text, where=str(path))


def _attribute(module: ModuleType, name: str, text: str, *, where: str) -> type[Layout]:
    there = _layouts_in(module)
    names = ", ".join(there) or "none"
    if not name:
        if len(there) == 1:
            name = there[0]
        else:
            example = f"; try {text}:{there[0]}" if there else ""
            raise LayoutError(f"layout {text!r}: which one? {where} has: {names}{example}")
    if not hasattr(module, name):
        raise LayoutError(f"layout {text!r}: {where} has no {name!r}; its layouts are: {names}")
    return _checked(getattr(module, name), text)


def _checked(value: object, text: str) -> type[Layout]:
    if isinstance(value, type) and issubclass(value, Layout) and value is not Layout:
        return value
    raise LayoutError(
        f"layout {text!r}: {value!r} is no layout; try the name of a class derived from Layout"
    )


def load_file(path: Path) -> ModuleType:
    """Import a file as a module of its own; one that is imported already is not run again.

    Modules beside it can be imported by it.

    :raises LayoutError: importing it failed; the cause is chained.
    """
    for module in tuple(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and Path(file) == path and getattr(module, "__name__", "") != "__main__":
            return module
    name = f"_carthage_{path.stem}_{abs(hash(str(path))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LayoutError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, CarthageError) or not isinstance(error, Exception):
            raise
        raise LayoutError(f"{path}: importing it failed: {_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _imported(reference: str, text: str) -> type[Layout]:
    module_name, colon, name = reference.partition(":")
    if not colon:
        module_name, _, name = reference.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except CarthageError:
        raise
    except ModuleNotFoundError as error:
        raise LayoutError(
            f"layout {text!r}: there is no module {error.name!r}; "
            "try PATH.py:Class for a file that is not installed"
        ) from error
    except Exception as error:
        raise LayoutError(
            f"layout {text!r}: importing {module_name} failed: {_line(error)}"
        ) from error
    return _attribute(module, name, text, where=f"module {module_name}")


def _line(error: Exception) -> str:
    return described(error).partition("\n")[0]
