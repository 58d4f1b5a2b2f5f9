"""The captures of one live layout; what captures is imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pytest_carthage.bridge import Opening

if TYPE_CHECKING:
    from pytest_carthage.live.packets.capture import AsyncCapture, Capture, Place
    from pytest_carthage.live.surroundings import Knows, Reaches
    from pytest_carthage.planning.plan import PlannedLink

__all__ = ["Captures"]


def _capture() -> Any:
    from pytest_carthage.live.packets import capture

    return capture


class Captures:
    """Begins the captures of one live layout, and ends with it those that are still running."""

    def __init__(self, *, knows: Knows[Any], reaches: Reaches) -> None:
        self.knows = knows
        self.reaches = reaches
        #: those that are running
        self.running: list[AsyncCapture] = []

    def of_network(self, network: str, filter: str) -> Opening[AsyncCapture, Capture]:
        """Capture what is sent on a network, each frame once."""
        where = f"network {network!r}"
        return self._opening(where, lambda: _capture().places(self.knows.plan, network), filter)

    def of_link(
        self, machine: str, link: PlannedLink, filter: str
    ) -> Opening[AsyncCapture, Capture]:
        """Capture what passes a link, in both directions."""
        where = f"link {machine}.{link.interface}"
        return self._opening(where, lambda: [_capture().link_place(link, machine)], filter)

    def _opening(
        self, where: str, look: Callable[[], Sequence[Place]], filter: str
    ) -> Opening[AsyncCapture, Capture]:
        module = _capture()

        async def begin() -> AsyncCapture:
            capture: AsyncCapture = module.AsyncCapture(self, where, look(), filter)
            await capture.open()
            return capture

        return Opening(begin, module.Capture)

    def close(self) -> None:
        """End all."""
        for capture in list(self.running):
            capture.stop()
