"""What there is to choose from (targets, layouts), and what was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_carthage.errors import LayoutError
from pytest_carthage.plugin import layouts, options

if TYPE_CHECKING:
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.provider import Provider

__all__ = ["check", "chosen_layouts", "known_providers", "parametrise", "registered_layouts"]

CHOSEN = pytest.StashKey[Mapping[str, type["Layout"]]]()


def known_providers(config: pytest.Config) -> Mapping[str, Callable[[], Provider]]:
    """Target to what makes its provider, of all plugins; none is made.

    :raises pytest.UsageError: two plugins add the same target.
    """
    found: dict[str, Callable[[], Provider]] = {}
    for added in config.hook.pytest_carthage_providers():
        for target, make in added.items():
            if target in found:
                raise pytest.UsageError(
                    f"target {target!r} is added by two plugins ({found[target]} and {make}); "
                    "disable one of them with -p no:NAME"
                )
            found[target] = make
    return found


def registered_layouts(config: pytest.Config) -> layouts.Registered:
    """Name to layout, of all plugins; none is imported.

    :raises pytest.UsageError: two plugins register the same name.
    """
    found: dict[str, type[Layout] | str] = {}
    for added in config.hook.pytest_carthage_layouts():
        for name, layout in added.items():
            if found.setdefault(name, layout) != layout:
                raise pytest.UsageError(
                    f"layout {name!r} is registered twice, as {found[name]!r} and {layout!r}"
                )
    return found


def check(config: pytest.Config, settings: options.Settings) -> None:
    """Check that what was chosen exists, and import the chosen layouts.

    :raises pytest.UsageError: it does not; says what there is.
    """
    if settings.target is not None:
        known = known_providers(config)
        if settings.target not in known:
            raise pytest.UsageError(
                f"unknown target {settings.target!r}; there are: {', '.join(sorted(known))}"
            )
    chosen_layouts(config)


def chosen_layouts(config: pytest.Config) -> Mapping[str, type[Layout]]:
    """Test id to layout, for ``--carthage-layout``.

    :raises pytest.UsageError: one cannot be found, or is wrong.
    """
    if CHOSEN not in config.stash:
        config.stash[CHOSEN] = _find(config, options.settings_of(config).layouts)
    return config.stash[CHOSEN]


def _find(config: pytest.Config, texts: tuple[str, ...]) -> dict[str, type[Layout]]:
    found: dict[str, type[Layout]] = {}
    registered = registered_layouts(config) if texts else {}
    folder = config.invocation_params.dir
    if not config.option.carthage_layout and config.inipath is not None:
        folder = config.inipath.parent
    for text in dict.fromkeys(texts):
        try:
            layout = layouts.find(text, registered=registered, folder=folder)
        except LayoutError as error:
            raise pytest.UsageError(f"--carthage-layout: {error}") from error
        if layout in found.values():
            continue
        name = layout.__name__
        found[text if name in found else name] = layout
    return found


def parametrise(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses ``layout`` once for each chosen layout."""
    chosen = chosen_layouts(metafunc.config)
    metafunc.parametrize(
        "layout", list(chosen.values()), ids=list(chosen), indirect=True, scope="session"
    )
