"""The proof by observation that a layout is sealed.

Every machine sends packets that carry a token, by every way in which one could leave; meanwhile
packet sockets watch the host's own network namespace, all other live layouts and this one. A token
outside is a leak; so is, inside, a frame that nobody of the layout has sent.

Nothing is sent from the host's namespace but to its own loopback.
"""

from pytest_carthage.live.packets.sealing.report import Neighbour, SealReport
from pytest_carthage.live.packets.sealing.trial import assert_sealed

__all__ = ["Neighbour", "SealReport", "assert_sealed"]
