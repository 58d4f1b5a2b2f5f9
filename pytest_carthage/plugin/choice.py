"""What there is to choose from (targets, layouts), and what was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.errors import LayoutError
from pytest_carthage.model.mistakes.culprit import described
from pytest_carthage.plugin.settings import Settings, settings_of
from pytest_carthage.reference import layouts

if TYPE_CHECKING:
    import pluggy

    from pytest_carthage.live.layout import Layout
    from pytest_carthage.provider import Provider

__all__ = [
    "check",
    "chosen_layouts",
    "header",
    "known_providers",
    "parametrise",
    "registered_layouts",
]

CHOSEN = pytest.StashKey[Mapping[str, type["Layout"]]]()


def known_providers(config: pytest.Config) -> Mapping[str, Callable[[], Provider]]:
    """Target to what makes its provider, of all plugins; none is made.

    :raises pytest.UsageError: two plugins add the same target, or one fails.
    """
    providers: dict[str, Callable[[], Provider]] = {}
    for added in _hooked(config.hook.pytest_carthage_providers):
        for target, make in added.items():
            if target in providers:
                raise pytest.UsageError(
                    f"target {target!r} is added by two plugins ({providers[target]} and {make}); "
                    "disable one of them with -p no:NAME"
                )
            providers[target] = make
    return providers


def _hooked(hook: pluggy.HookCaller) -> list[Mapping[str, Any]]:
    """What all plugins answer to a hook."""
    try:
        answers: list[Mapping[str, Any]] = hook()
    except Exception as error:
        raise pytest.UsageError(f"hook {hook.name} failed: {described(error)}") from error
    return answers


def registered_layouts(config: pytest.Config) -> layouts.Registered:
    """Name to layout, of all plugins; none is imported.

    :raises pytest.UsageError: two plugins register the same name, or one fails.
    """
    registered: dict[str, type[Layout] | str] = {}
    for added in _hooked(config.hook.pytest_carthage_layouts):
        for name, layout in added.items():
            if registered.setdefault(name, layout) != layout:
                raise pytest.UsageError(
                    f"layout {name!r} is registered twice, as {registered[name]!r} and {layout!r}"
                )
    return registered


def check(config: pytest.Config, settings: Settings) -> None:
    """Check that what was chosen exists, and import the chosen layouts.

    :raises pytest.UsageError: it does not; says what there is.
    """
    if settings.target is not None:
        targets = known_providers(config)
        if settings.target not in targets:
            raise pytest.UsageError(
                f"unknown target {settings.target!r}; there are: {', '.join(sorted(targets))}"
            )
    chosen_layouts(config)


def header(config: pytest.Config, target: str) -> list[str]:
    """What machines of the chosen target are like here, as a line; none: it has nothing to say."""
    from pytest_carthage.provider import Describes

    provider = known_providers(config)[target]()
    if not isinstance(provider, Describes):
        return []
    return [f"carthage: target {target}: {provider.describe()}"]


def chosen_layouts(config: pytest.Config) -> Mapping[str, type[Layout]]:
    """Test id to layout, for ``--carthage-layout``.

    :raises pytest.UsageError: one cannot be found, or is wrong.
    """
    if CHOSEN not in config.stash:
        config.stash[CHOSEN] = _find(config, settings_of(config).layouts)
    return config.stash[CHOSEN]


def _find(config: pytest.Config, texts: tuple[str, ...]) -> dict[str, type[Layout]]:
    chosen: dict[str, type[Layout]] = {}
    registered = registered_layouts(config) if texts else {}
    folder = config.invocation_params.dir
    if not config.option.carthage_layout and config.inipath is not None:
        folder = config.inipath.parent
    for text in dict.fromkeys(texts):
        try:
            layout = layouts.find(text, registered=registered, folder=folder)
        except LayoutError as error:
            raise pytest.UsageError(f"--carthage-layout: {error}") from error
        if layout in chosen.values():
            continue
        name = layout.__name__
        chosen[text if name in chosen else name] = layout
    return chosen


def parametrise(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses ``layout`` once for each chosen layout."""
    chosen = chosen_layouts(metafunc.config)
    metafunc.parametrize(
        "layout", list(chosen.values()), ids=list(chosen), indirect=True, scope="session"
    )
