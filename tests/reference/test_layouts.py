"""From what a person wrote to a layout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, LayoutError
from pytest_carthage.reference import layouts

SHAPES = """
from pytest_carthage import Layout, Machine

class Small(Layout):
    one = Machine()

class Large(Small):
    two = Machine()

nothing = 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with modules; what was imported of them is forgotten at the end."""
    before = set(sys.modules)
    (tmp_path / "shapes_of_reference.py").write_text(SHAPES)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def find(text: str, folder: Path, registered: layouts.Registered | None = None) -> type[Layout]:
    return layouts.find(text, registered=registered or {}, folder=folder)


def test_layout_is_found_in_a_file(folder: Path) -> None:
    layout = find("shapes_of_reference.py:Large", folder)
    assert layout.__name__ == "Large"
    assert list(layout.machines()) == ["one", "two"]
    assert str(folder) not in sys.path


def test_file_is_run_once(folder: Path) -> None:
    absolute = str(folder / "shapes_of_reference.py")
    first = find("shapes_of_reference.py:Small", folder)
    assert find(f"{absolute}:Small", Path("/")) is first


def test_only_layout_of_a_file_needs_no_name(folder: Path) -> None:
    (folder / "alone.py").write_text(
        "from shapes_of_reference import Large\nclass Mine(Large): ...\n"
    )
    # what is imported is not meant where the file has one of its own
    assert find("alone.py", folder).__name__ == "Mine"


def test_layout_that_a_file_only_imports_is_found(folder: Path) -> None:
    (folder / "borrowing.py").write_text("from shapes_of_reference import Small\n")
    assert find("borrowing.py", folder).__name__ == "Small"


@pytest.mark.parametrize("text", ["shapes_of_reference:Small", "shapes_of_reference.Small"])
def test_layout_is_found_by_its_dotted_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.syspath_prepend(folder)
    assert find(text, Path("/")).__name__ == "Small"


def test_registered_layout_is_found_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    small = find("shapes_of_reference:Small", folder)
    registered: layouts.Registered = {"the-small": small, "lazy": "shapes_of_reference:Large"}
    assert find("the-small", folder, registered) is small
    assert find("lazy", folder, registered).__name__ == "Large"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "shapes_of_reference.py",
            "layout 'shapes_of_reference.py': which one? {path} has: Small, Large; "
            "try shapes_of_reference.py:Small",
        ),
        (
            "shapes_of_reference.py:Tiny",
            "layout 'shapes_of_reference.py:Tiny': {path} has no 'Tiny'; its layouts are: "
            "Small, Large",
        ),
        (
            "shapes_of_reference.py:nothing",
            "layout 'shapes_of_reference.py:nothing': 7 is no layout; try the name of a class "
            "derived from Layout",
        ),
        (
            "gone.py:Small",
            "layout 'gone.py:Small': there is no file {folder}/gone.py; try a path that exists",
        ),
        (
            "no.such:Small",
            "layout 'no.such:Small': there is no module 'no'; "
            "try PATH.py:Class for a file that is not installed",
        ),
        (
            "small",
            "unknown layout 'small'; registered layouts: large, wide; "
            "try one of these, or PATH.py:Class, or dotted.name.Class",
        ),
        (
            "wide",
            "layout 'wide': <class 'object'> is no layout; "
            "try the name of a class derived from Layout",
        ),
    ],
)
def test_text_that_leads_to_no_layout_is_refused_with_what_there_is(
    folder: Path, text: str, message: str
) -> None:
    registered: Any = {"wide": object, "large": Layout}
    with pytest.raises(LayoutError) as caught:
        find(text, folder, registered)
    path = folder / "shapes_of_reference.py"
    assert str(caught.value) == message.format(path=path, folder=folder)


def test_file_without_layouts_has_none(folder: Path) -> None:
    (folder / "empty.py").write_text("")
    with pytest.raises(LayoutError, match=r"which one\? .*empty.py has: none$"):
        find("empty.py", folder)


def test_file_that_fails_is_refused_with_its_reason_and_forgotten(folder: Path) -> None:
    path = folder / "broken.py"
    path.write_text("raise KeyError('price')\n")
    for _ in range(2):  # it was not left half imported
        with pytest.raises(
            LayoutError,
            match=r"broken.py: importing it failed: KeyError: 'price' \(at .*broken.py:\d+\)$",
        ) as caught:
            find("broken.py", folder)
    assert isinstance(caught.value.__cause__, KeyError)
    assert str(folder) not in sys.path


def test_module_that_fails_is_refused_with_its_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    (folder / "broken_module.py").write_text("1 / 0\n")
    with pytest.raises(
        LayoutError,
        match=r"layout 'broken_module:Shop': importing broken_module failed: "
        r"ZeroDivisionError: division by zero \(at .*broken_module.py:1\)$",
    ):
        find("broken_module:Shop", folder)


@pytest.mark.parametrize("text", ["wrong.py:Shop", "wrong:Shop"])
def test_mistake_in_a_layout_keeps_its_own_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.syspath_prepend(folder)
    (folder / "wrong.py").write_text(
        "from pytest_carthage import Layout, Network\nclass Shop(Layout):\n    lan = Network\n"
    )
    with pytest.raises(LayoutError, match="layout 'Shop': member 'lan' is the class Network"):
        find(text, folder)


def test_module_that_a_file_needs_is_named(folder: Path) -> None:
    (folder / "needy.py").write_text("import no_such_module\n")
    with pytest.raises(LayoutError, match="ModuleNotFoundError: No module named 'no_such_module'"):
        find("needy.py", folder)


def test_layouts_of_distributions_are_entry_points_that_are_not_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = folder / "product-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: product\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[pytest_carthage.layouts]\nproduct = no.such.module:Shop\n"
    )
    monkeypatch.syspath_prepend(folder)
    assert layouts.of_distributions()["product"] == "no.such.module:Shop"
