"""Parameters of roles: which values fit which annotations, and what is told where they do not."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any, Literal, Optional, Union

import pytest

from pytest_carthage import LayoutError, Role
from pytest_carthage.model.parameters import is_time_limit


def role_with(kind: Any, **options: Any) -> Any:
    """A role with one parameter ``value`` of this kind."""
    cls = type("Cache", (Role,), {"__annotations__": {"value": kind}, **options})
    return dataclass(frozen=True, kw_only=True)(cls)


@pytest.mark.parametrize(
    ("kind", "fitting", "words"),
    [
        (str, ["", "a"], "str"),
        (int, [0, -1], "int"),
        (float, [0, 1.5], "float"),
        (bool, [True, False], "bool"),
        (bytes, [b""], "bytes"),
        (Path, [Path("a")], "Path"),
        (PurePath, [Path("a"), PurePosixPath("a")], "PurePath"),
        (None, [None], "None"),
        (Optional[int], [1, None], "int or None"),  # noqa: UP045  as authors write it
        (Union[int, str], [1, "a"], "int or str"),  # noqa: UP007  as authors write it
        (int | None, [1, None], "int or None"),
        (Annotated[int, "words"], [1], "int"),
        (Literal["a", 1], ["a", 1], "one of 'a', 1"),
        (tuple[int, ...], [(), (1,), (1, 2), [1]], "a tuple of int"),
        (tuple[int, str], [(1, "a"), [1, "a"]], "a tuple of int, str"),
        (tuple[tuple[int, ...], ...], [((1,), (2, 3))], "a tuple of a tuple of int"),
        (tuple[str, ...] | None, [None, ("a",)], "a tuple of str or None"),
    ],
)
def test_value_fits_its_annotation_or_is_refused(kind: Any, fitting: list[Any], words: str) -> None:
    cls = role_with(kind)
    for value in fitting:
        assert cls(value=value).value == value
    for value in (object(), True if kind is not bool else 1, {"a": 1}, ("x", 1, b""), 1j):
        with pytest.raises(LayoutError) as caught:
            cls(value=value)
        message = str(caught.value)
        assert message.startswith(f"role Cache: parameter value={value!r} is ")
        assert (
            f" is {type(value).__name__}, expected is {words}; declared at {__file__}:" in message
        )


@pytest.mark.parametrize("kind", [Any, Sequence[int], dict[str, int], "NoSuchName", list[str]])
def test_annotation_that_is_not_known_of_here_takes_everything(kind: Any) -> None:
    for value in (1, "a", None, object()):
        assert role_with(kind)(value=value).value is value


def test_bare_tuple_takes_any_tuple_and_nothing_else() -> None:
    cls = role_with(tuple)
    assert cls(value=(1, "a")).value == (1, "a")


@pytest.mark.parametrize(
    ("kind", "value", "remedy"),
    [
        (int, "80", "value=80"),
        (str, 80, "value='80'"),
        (float, "0.5", "value=0.5"),
        (int, "eighty", "value=... (int)"),
        (int | str, 1.5, "value=1"),
        (Path, "/srv", "value=Path('/srv')"),
        (PurePosixPath | None, "/srv", "value=PurePosixPath('/srv')"),
        (tuple[str, ...], "a", "value=('a',)"),
        (tuple[int, ...], "a", "value=... (a tuple of int)"),
        (Literal["a", "b"], "c", "value='a'"),
        (Literal["a"] | None, 7, "value='a'"),
        (bool, 1, "value=... (bool)"),
        (bytes, "a", "value=... (bytes)"),
    ],
)
def test_remedy_is_what_the_author_has_probably_meant(kind: Any, value: Any, remedy: str) -> None:
    with pytest.raises(LayoutError) as caught:
        role_with(kind)(value=value)
    assert str(caught.value).endswith(f"; try: {remedy}")


def test_default_counts_as_a_value_and_what_a_factory_makes_is_not_asked() -> None:
    with pytest.raises(LayoutError, match="parameter value='a' is str, expected is int"):
        role_with(int, value="a")()
    assert role_with(int, value=field(default_factory=lambda: 7))().value == 7


def test_parameter_that_is_missing_is_refused_where_the_role_is_written() -> None:
    with pytest.raises(LayoutError, match=r"parameter 'value' is missing; declared at .*py:\d+; "):
        role_with(int)()


def test_positional_parameter_is_checked_like_a_named_one() -> None:
    @dataclass(frozen=True)
    class Cache(Role):
        port: int
        name: str = ""

    assert Cache(1, "a") == Cache(port=1, name="a")
    with pytest.raises(LayoutError, match=r"parameter name=7 is int, expected is str"):
        Cache(1, 7)  # type: ignore[arg-type]


def test_unknown_parameter_is_refused_with_the_ones_that_there_are() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Cache(Role):
        port: int = 1
        size: int = 1

    @dataclass(frozen=True, kw_only=True)
    class Empty(Role):
        pass

    for cls, wrong, remedy in (
        (Cache, "prot", "one of port"),
        (Cache, "colour", "one of port, size"),
        (Empty, "port", "leave it out"),
    ):
        made: Any = cls
        with pytest.raises(LayoutError) as caught:
            made(**{wrong: 1})
        message = str(caught.value)
        assert message.startswith(
            f"role {cls.__name__}: it has no parameter {wrong!r}; declared at"
        )
        assert message.endswith(f"; try: {remedy}")


def test_property_in_the_place_of_a_parameter_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Cache(Role):
        port: int = 1

    class Odd(Cache):
        @property
        def port(self) -> int:
            return 2

    with pytest.raises(LayoutError) as caught:
        Odd()
    message = str(caught.value)
    assert "role Odd: port is a property here, and a parameter in a base; declared at" in message
    assert message.endswith("; try: another name, or port = ... with a value")


def test_annotation_of_a_subclass_that_is_no_dataclass_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Cache(Role):
        port: int = 1

    class Odd(Cache):
        port: int = 2
        size: int = 3

    odd: Any = Odd
    with pytest.raises(
        LayoutError, match="its value of port has no effect: a base's parameter"
    ) as caught:
        odd()
    assert "has no effect: a base's parameter stands before it; declared at" in str(caught.value)
    assert str(caught.value).endswith(
        "; try: @dataclass(frozen=True, slots=True, kw_only=True) above class Odd"
    )


def test_role_that_makes_itself_is_left_alone() -> None:
    class Cache(Role):
        def __init__(self, port: str) -> None:
            self.port = int(port)

    assert Cache("80").port == 80

    @dataclass(frozen=True, init=False)
    class Own(Role):
        port: int

        def __init__(self, text: str) -> None:
            object.__setattr__(self, "port", int(text))

    assert Own("80").port == 80


@pytest.mark.parametrize("value", [None, 1, 0.001, 10**9])
def test_time_limit_is_a_positive_number_or_none(value: object) -> None:
    assert is_time_limit(value)


@pytest.mark.parametrize("value", [0, -1, 0.0, True, "1", float("inf"), float("nan"), 1j])
def test_time_limit_is_nothing_else(value: object) -> None:
    assert not is_time_limit(value)


def test_signature_of_a_role_is_its_parameters() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Cache(Role):
        size_mib: int
        port: int = 6379
        mark: str = field(default="", compare=False)

    class Plain(Role):
        pass

    assert str(inspect.signature(Cache)) == "(*, size_mib: 'int', port: 'int' = 6379)"
    assert Cache.__doc__ == "Cache(*, size_mib: 'int', port: 'int' = 6379)"
    assert str(inspect.signature(Plain)) == "()"
