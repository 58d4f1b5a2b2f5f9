"""As little of pytest as the parts of the plugin need, where no session is worth its time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from pytest_carthage.plugin.settings import SETTINGS, Settings

__all__ = ["Item", "config", "through"]

_SETTINGS = Settings(
    layouts=(),
    target=None,
    run="run",
    named=False,
    keep_on_fail=False,
    keep=False,
    keep_for_s=60.0,
    keeps_for=False,
    use=(),
    again=(),
    artifacts=None,
    strict=False,
    offline=False,
    locked=None,
    pcap=(),
    pcap_mib=1,
    iac_coverage=False,
    iac_coverage_file=None,
)


class _Config:
    def __init__(self, options: dict[str, Any]) -> None:
        self.stash = pytest.Stash()
        self._options = options

    def getoption(self, name: str, default: Any = None) -> Any:
        return self._options.get(name, default)


def config(*, full_trace: bool = False, **settings: Any) -> Any:
    """A configuration with these settings."""
    made = _Config({"fulltrace": full_trace})
    values = {name: getattr(_SETTINGS, name) for name in Settings.__slots__}
    made.stash[SETTINGS] = Settings(**{**values, **settings})
    return made


class Item:
    """A test, by its name."""

    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid


def through(hook: Generator[Any, Any, Any], inner: Callable[[], Any]) -> Any:
    """What a hook wrapper makes of what the hook returns or raises."""
    next(hook)
    try:
        try:
            value = inner()
        except BaseException as error:
            hook.throw(error)
        else:
            hook.send(value)
    except StopIteration as returned:
        return returned.value
    raise AssertionError("the wrapper went on")
