"""What an author's function raised, in words: kind, message, and the line of theirs."""

from __future__ import annotations

import asyncio
import json
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import CarthageError, LayoutError
from pytest_carthage.model.mistakes.culprit import Authored, culprit, described, passes_through
from pytest_carthage.model.mistakes.place import Place

HOME = Path(sysconfig.get_path("purelib"))


def code(source: str, file: str, *, module: str = "author", **names: object) -> Any:
    """The function ``f`` of a text that is told to stand in a file."""
    scope: dict[str, Any] = {"__name__": module, **names}
    exec(compile(source, file, "exec"), scope)
    return scope["f"]


def failure(function: Callable[[], object]) -> Exception:
    try:
        function()
    except Exception as error:
        trace = error.__traceback__
        assert trace is not None
        return error.with_traceback(trace.tb_next)  # without the line above
    raise AssertionError("it did not fail")


BAD = code("\n\ndef f():\n    raise KeyError('port')", "conftest.py")


def test_failure_is_told_with_its_kind_and_the_authors_line() -> None:
    assert described(failure(BAD)) == "KeyError: 'port' (at conftest.py:4)"
    assert culprit(failure(BAD)) == Place(file="conftest.py", line=4)


def test_innermost_line_of_the_author_is_the_one() -> None:
    outer = code("def f():\n    g()", "outer.py", g=BAD)
    assert str(culprit(failure(outer))) == "conftest.py:4"


def test_failure_in_a_library_is_told_with_the_line_that_called_it() -> None:
    parse = code("def f():\n    return loads('{')", "conftest.py", loads=json.loads)
    assert str(culprit(failure(parse))) == "conftest.py:2"
    installed = code("def f():\n    1 / 0", str(HOME / "library.py"))
    calling = code("def f():\n    g()", "conftest.py", g=installed)
    assert str(culprit(failure(calling))) == "conftest.py:2"


def test_library_is_to_blame_where_no_author_is_and_python_never() -> None:
    installed = code("def f():\n    1 / 0", str(HOME / "library.py"))
    assert str(culprit(failure(installed))) == f"{HOME / 'library.py'}:2"
    folder = Path(sysconfig.get_path("stdlib"))
    standard = code("def f():\n    1 / 0", str(folder / "anything.py"))
    assert culprit(failure(standard)) is None
    assert described(failure(standard)) == "ZeroDivisionError: division by zero"
    frozen = code("def f():\n    1 / 0", "<frozen importlib>")
    assert culprit(failure(frozen)) is None


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_what_was_installed_anywhere_is_a_library(folder: str) -> None:
    installed = code("def f():\n    1 / 0", f"/opt/lib/{folder}/x.py")
    calling = code("def f():\n    g()", "/home/me/conftest.py", g=installed)
    assert str(culprit(failure(calling))) == "/home/me/conftest.py:2"


def test_environment_of_a_project_holds_libraries_although_it_is_beside_the_authors_files() -> None:
    if sys.prefix == sys.base_prefix:
        pytest.skip("this Python is in no environment of its own")
    installed = code("def f():\n    1 / 0", f"{sys.prefix}/share/x.py")
    calling = code("def f():\n    g()", "conftest.py", g=installed)
    assert str(culprit(failure(calling))) == "conftest.py:2"


def test_lines_of_ours_are_nobodys_and_those_of_roles_are_told() -> None:
    ours = code("def f():\n    1 / 0", "ours.py", module="pytest_carthage.live.layout")
    assert culprit(failure(ours)) is None
    role = code("def f():\n    1 / 0", "nginx.py", module="pytest_carthage.roles.nginx")
    assert str(culprit(failure(role))) == "nginx.py:2"
    theirs = code("def f():\n    1 / 0", "theirs.py", module="pytest_carthage_more")
    assert str(culprit(failure(theirs))) == "theirs.py:2"


def test_function_that_could_not_even_be_called_is_told_with_its_own_line() -> None:
    try:
        BAD(1)
    except TypeError as error:
        raised = error.with_traceback(None)
    assert described(raised, BAD) == (
        "TypeError: f() takes 0 positional arguments but 1 was given (at conftest.py:3)"
    )
    assert culprit(raised) is None
    assert culprit(raised, "no function") is None
    assert culprit(raised, described) is None  # ours


def test_first_of_a_group_is_the_cause() -> None:
    inner = ExceptionGroup("inner", [failure(BAD), ValueError("second")])
    group = ExceptionGroup("outer", [inner, OSError("third")])
    assert described(group) == "KeyError: 'port' (at conftest.py:4)"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no"), "ValueError: no"),
        (ValueError(), "ValueError"),
        (ValueError("no \n"), "ValueError: no"),
        (
            OSError(2, "No such file or directory", "/x"),
            "[Errno 2] No such file or directory: '/x'",
        ),
        (LayoutError("machine 'web': no"), "machine 'web': no"),
        (CarthageError("gone"), "gone"),
    ],
)
def test_kind_is_told_where_the_words_do_not_say_it_themselves(error: Exception, text: str) -> None:
    assert described(error) == text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("one\ntwo", "ValueError: one (at conftest.py:2)\ntwo"),
        ("these:\n- a\n- b", "ValueError: these (at conftest.py:2):\n- a\n- b"),
        ("ends:", "ValueError: ends (at conftest.py:2)"),
    ],
)
def test_line_stands_at_the_end_of_the_first_line_of_the_message(words: str, text: str) -> None:
    raising = code("def f():\n    raise error", "conftest.py", error=ValueError(words))
    assert described(failure(raising)) == text


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (asyncio.CancelledError(), True),
        (KeyboardInterrupt(), True),
        (GeneratorExit(), True),
        (SystemExit(1), False),
        (ValueError(), False),
        (TimeoutError(), False),
    ],
)
def test_somebody_elses_end_is_no_failure(error: BaseException, passes: bool) -> None:
    assert passes_through(error) is passes
    if passes:
        with pytest.raises(type(error)), Authored("notify", LayoutError):
            raise error


def test_block_of_an_author_raises_an_error_of_ours_with_theirs_as_its_cause() -> None:
    with (
        pytest.raises(LayoutError, match=r"^subscriber f failed: KeyError: 'port' \(at ") as caught,
        Authored("subscriber f", LayoutError, BAD),
    ):
        BAD()
    assert isinstance(caught.value.__cause__, KeyError)
    assert str(caught.value).endswith("(at conftest.py:4)")


def test_block_that_goes_well_is_nothing_at_all() -> None:
    with Authored("subscriber f", LayoutError):
        passed = True
    assert passed
