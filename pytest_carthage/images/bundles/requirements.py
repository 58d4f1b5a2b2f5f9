"""Which distributions a folder of tests needs: by what its files import, as they are here."""

from __future__ import annotations

import ast
import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlparse

__all__ = ["Requirement", "Requirements", "missing", "of_files"]

#: what every suite needs
_ALWAYS = ("pytest", "pytest_carthage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One distribution, in the version that is here."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What is needed beside a folder itself."""

    distributions: tuple[Requirement, ...]
    #: module to the file or folder that it is; of no distribution, and not in the folder
    strays: Mapping[str, Path]


def of_files(files: Iterable[Path], modules: Iterable[str], root: Path) -> Requirements:
    """What files import that are Python, and what modules that are loaded belong to.

    :param modules: names of modules, as of the classes of a layout.
    :param root: what is in this folder comes with it.
    """
    paths = [path for path in files if path.suffix == ".py"]
    own = {path.stem for path in paths} | {path.parent.name for path in paths}
    names = {*_ALWAYS, *(module.partition(".")[0] for module in modules)}
    for path in paths:
        names |= set(_imports(path))
    of_module = metadata.packages_distributions()
    distributions: dict[str, Requirement] = {}
    strays: dict[str, Path] = {}
    for name in sorted(names - set(sys.stdlib_module_names) - {"__main__"}):
        place = _place_of(name)
        if place is None or place.is_relative_to(root):
            continue
        owners = of_module.get(name) or _editable(place)
        for owner in owners:
            distributions[owner] = Requirement(name=owner, version=metadata.version(owner))
        if not owners and name not in own:
            strays[name] = place
    return Requirements(
        distributions=tuple(distributions[name] for name in sorted(distributions)),
        strays=strays,
    )


def missing(wanted: Iterable[Requirement]) -> Iterator[tuple[Requirement, str]]:
    """Those that are not here, or in another version: each with the one that is, or nothing."""
    for requirement in wanted:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = ""
        if version != requirement.version:
            yield requirement, version


def _imports(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _place_of(name: str) -> Path | None:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None:
        try:
            spec = find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
        file = spec.origin if spec is not None else None
    return Path(file) if file and file not in ("built-in", "frozen") else None


def _editable(place: Path) -> list[str]:
    """Distributions that are installed as a link to where they are developed."""
    return [
        distribution.name
        for distribution in metadata.distributions()
        if any(place.is_relative_to(folder) for folder in _linked(distribution))
    ]


def _linked(distribution: metadata.Distribution) -> Iterator[Path]:
    """Folders that a distribution is a link to."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if "dir_info" in origin:
        yield Path(unquote(urlparse(origin.get("url", "")).path))
    # tox installs a wheel that has nothing but this, see site(3)
    for file in distribution.files or ():
        if file.suffix == ".pth":
            with contextlib.suppress(OSError):
                lines = Path(str(file.locate())).read_text().splitlines()
                yield from (Path(line) for line in lines if line.startswith("/"))
