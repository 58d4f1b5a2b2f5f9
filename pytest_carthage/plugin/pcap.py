"""``--carthage-pcap``: which networks of a layout are recorded from its first packet on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_carthage.live.layout import Layout
from pytest_carthage.live.packets.recording import Recording, recordable
from pytest_carthage.plugin.settings import Settings

if TYPE_CHECKING:
    from pytest_carthage.live.environment import AsyncLayout
    from pytest_carthage.planning.plan import Plan

__all__ = ["check", "prologue"]

_ALL = "all"


def _layouts(cls: type[Layout] = Layout) -> Iterator[type[Layout]]:
    for derived in cls.__subclasses__():
        yield derived
        yield from _layouts(derived)


def check(settings: Settings) -> None:
    """Refuse names of networks that no layout of this session has.

    :raises pytest.UsageError: with the networks that there are.
    """
    networks: dict[str, None] = {}
    for layout in _layouts():
        networks |= dict.fromkeys(layout.networks())
    wrong = [name for name in settings.pcap if name not in networks and name != _ALL]
    if wrong and networks:
        raise pytest.UsageError(
            f"--carthage-pcap={','.join(settings.pcap)}: no layout has a network "
            f"{wrong[0]!r}; there are: {', '.join(networks)}; try one of these, or "
            f"--carthage-pcap=all where {wrong[0]!r} was meant for pytest itself"
        )


def _chosen(settings: Settings, plan: Plan) -> Sequence[str]:
    possible = recordable(plan)
    if _ALL in settings.pcap:
        return possible
    return [name for name in settings.pcap if name in plan.networks]


def prologue(settings: Settings, plan: Plan) -> Callable[[AsyncLayout], Awaitable[None]] | None:
    """What begins the recording of an environment when it has networks and no machines yet."""
    networks = _chosen(settings, plan)
    if not networks:
        return None

    async def begin(environment: AsyncLayout) -> None:
        environment.recording = await Recording.begin(
            environment, environment, networks, most_bytes=settings.pcap_mib << 20
        )

    return begin
