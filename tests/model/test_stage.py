from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import LayoutError, stage
from pytest_carthage.model.keys.key import function_key
from pytest_carthage.model.stage import Stage


def value_of(fixture: Any) -> Stage:
    found = fixture.__carthage_stage__
    assert isinstance(found, Stage)
    return found


def test_stage_knows_name_needs_and_line() -> None:
    @stage
    async def imported(shop: object, request: object) -> None: ...

    made = value_of(imported)
    assert (made.name, made.needs, made.is_async) == ("imported", ("shop", "request"), True)
    assert made.timeout_s is None
    assert made.place.file == __file__


def test_stage_takes_name_and_time_limit() -> None:
    @stage(timeout_s=30, name="data")
    def imported(shop: object) -> None: ...

    made = value_of(imported)
    assert (made.name, made.timeout_s, made.is_async) == ("data", 30, False)


def defined_in(folder: Path, name: str, text: str) -> Any:
    path = folder / f"{name}.py"
    path.write_text(text)
    names: dict[str, Any] = {}
    exec(compile(text, path, "exec"), names)
    return names["imported"]


def test_key_follows_the_source_of_the_function_alone(tmp_path: Path) -> None:
    text = "def imported(shop):\n    return 1\n"
    first = function_key(defined_in(tmp_path, "a", text))
    edited = f"ANSWER = 42\n\n\n{text}\n\ndef other(): ...\n"
    assert function_key(defined_in(tmp_path, "b", edited)) == first
    changed = text.replace("1", "2")
    assert function_key(defined_in(tmp_path, "c", changed)) != first


def test_key_of_a_function_without_source_follows_its_code() -> None:
    def typed(text: str) -> Any:
        names: dict[str, Any] = {}
        exec(text, names)
        return names["f"]

    assert function_key(typed("def f(): return 1")) == function_key(typed("\ndef f(): return 1"))
    assert function_key(typed("def f(): return 1")) != function_key(typed("def f(): return 2"))


def test_key_of_a_stage_is_that_of_its_function() -> None:
    def plain(shop: object) -> int:
        return 1

    made = value_of(stage(plain))
    assert made.key == function_key(plain)
    assert made.function is plain


def generator(shop: object) -> Iterator[int]:
    yield 1


async def async_generator(shop: object) -> AsyncIterator[int]:
    yield 1


def several(*shops: object) -> None: ...


def keywords(**shops: object) -> None: ...


def positional(shop: object, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (generator, "stage 'generator': it yields, but a stage has nothing to undo"),
        (async_generator, "stage 'async_generator': it yields, but a stage has nothing to undo"),
        (several, "stage 'several': parameter '*shops: 'object'' does not name a fixture"),
        (keywords, "stage 'keywords': parameter '**shops: 'object'' does not name a fixture"),
        (positional, "stage 'positional': parameter 'shop: 'object'' does not name a fixture"),
        (7, "stage '7': it is not a function"),
        (Stage, "stage 'Stage': it is not a function"),
    ],
)
def test_what_cannot_be_a_stage_is_refused(function: Any, message: str) -> None:
    with pytest.raises(LayoutError) as caught:
        stage(function)
    line = inspect.getsourcelines(test_what_cannot_be_a_stage_is_refused)[1]
    assert str(caught.value).startswith(f"{message}; declared at {__file__}:")
    assert int(str(caught.value).split(f"{__file__}:")[1].split(";")[0]) > line


@pytest.mark.parametrize("limit", [0, -1, True, "1m", float("inf"), float("nan")])
def test_time_limit_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises(LayoutError, match=r"timeout_s .* is not a positive number; .*; try: @st"):

        @stage(timeout_s=limit)
        def imported(shop: object) -> None: ...


STAND_IN = """
    import types
    from pytest_carthage.door import DOOR

    def pytest_configure(config):
        config.stash[DOOR] = lambda: types.SimpleNamespace(
            layout_fixture=lambda cls, request: iter([cls.__name__ + " of " + request.scope]),
            image_fixture=lambda image, request: iter([image.name + " of " + request.scope]),
            run_stage=lambda made, given, request: (made.name, given, request.scope),
        )
"""


def test_declarations_are_fixtures_of_the_session(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        STAND_IN
        + """
    from pytest_carthage import Image, Layout, stage

    debian = Image.debian("bookworm").fixture()

    class Shop(Layout):
        "A shop."

    shop = Shop.fixture()
    renamed = Shop.fixture(name="store")

    @stage
    async def imported(shop):
        "Imports."

    @stage(timeout_s=5, name="live")
    def production(imported, request, answer=42): ...
    """
    )
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(
        """
        def test_values(debian, shop, store, imported, live):
            assert debian == "debian of session"
            assert shop == store == "Shop of session"
            assert imported == ("imported", {"shop": shop}, "session")
            name, given, scope = live
            assert (name, scope, sorted(given)) == ("live", "session", ["imported", "request"])
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:carthage", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    shown = pytester.runpytest_inprocess("-p", "no:carthage", "--fixtures")
    shown.stdout.fnmatch_lines(["imported * conftest.py:*", "*Imports."])
    shown.stdout.fnmatch_lines(["shop *", "*A shop."])


@pytest.mark.parametrize(
    ("fixture", "subject"),
    [
        ("shop", "layout 'Shop'"),
        ("debian", "image 'debian'"),
        ("imported", "stage 'imported'"),
    ],
)
def test_declaration_without_the_plugin_says_that_it_is_missing(
    pytester: pytest.Pytester, fixture: str, subject: str
) -> None:
    pytester.makeconftest(
        """
        from pytest_carthage import Image, Layout, stage

        debian = Image.debian("bookworm").fixture()

        class Shop(Layout):
            "A shop."

        shop = Shop.fixture()

        @stage
        def imported(): ...
        """
    )
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(f"def test_it({fixture}): ...")
    result = pytester.runpytest_inprocess("-p", "no:carthage", "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            f"{subject}: its fixture '{fixture}' needs the plugin of pytest-carthage, which is not "
            "loaded in this session; try: pytest without '-p no:carthage', or with "
            "'-p pytest_carthage.plugin' where plugins are not loaded by themselves"
        ]
    )
    result.stdout.no_fnmatch_line("*door_of*")
