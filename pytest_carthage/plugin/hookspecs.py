"""What other plugins, and a project's ``conftest.py``, can add."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_carthage.live.layout import Layout
    from pytest_carthage.live.resolved import NetworkEvent
    from pytest_carthage.provider import Provider


def pytest_carthage_providers() -> Mapping[str, Callable[[], Provider]]:  # type: ignore[empty-body]
    """Name the targets that this plugin adds: target to a function that makes its provider.

    The function is called at most once per session, when the first layout is planned, whether or
    not that has a machine for the target: what its machines are like has to be known. So a heavy
    library is imported by the provider's ``check()`` or ``create()``, which are called only for a
    plan that has such machines. The built-in targets come through this hook too. A distribution
    that offers a target should rather do so by an entry point of the group
    ``pytest_carthage.providers``: the command line knows those, too.
    """


def pytest_carthage_layouts() -> Mapping[str, type[Layout] | str]:  # type: ignore[empty-body]
    """Register layouts under names that ``--carthage-layout`` takes.

    A value is the layout class, or text that is imported when somebody asks for it, as in
    ``"product_tests.layouts:Shop"``. Distributions can do the same without a plugin, by
    entry points of the group ``pytest_carthage.layouts``.
    """


def pytest_carthage_network_event(event: NetworkEvent) -> Awaitable[None] | None:
    """Be told that a link is resolved, or that a public address has become known.

    Called on the thread of the layouts, so it must not block; what it returns is awaited, and the
    layout is ready only when that has ended. A failure fails the layout.
    """
