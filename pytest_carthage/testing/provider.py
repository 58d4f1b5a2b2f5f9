"""A provider whose machines are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_carthage.channels.consoles import Attached
from pytest_carthage.errors import Problem
from pytest_carthage.model.on import On
from pytest_carthage.planning.plan import Plan, PlannedMachine
from pytest_carthage.provider import Channel, Context, Identity, Traits
from pytest_carthage.screens.keys import KEYS, Chord
from pytest_carthage.screens.picture import png
from pytest_carthage.testing.endpoint import FakeEndpoint
from pytest_carthage.testing.files import Tree
from pytest_carthage.testing.machine import FakeMachine
from pytest_carthage.testing.world import World

__all__ = ["FakeMeans", "FakeProvider"]

#: pixels of a screen, across and down
_SCREEN = (720, 400)
#: any layout can be planned on them: what an image would bring is not looked at
TRAITS = Traits(root="existing", init=True, outside=False, settings=On)


@dataclass(slots=True)
class FakeMeans:
    """What a fake machine is operated by."""

    identity: Identity
    channel: Channel
    machine: FakeMachine = field(repr=False)
    _endpoint: FakeEndpoint = field(repr=False)

    async def start(self) -> None:
        """Switch on."""
        self.machine.power = "on"
        self.machine.starts += 1

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Switch off; what runs is ended."""
        self.machine.power = "off"
        self._endpoint.hang_up()

    async def snapshot(self, name: str) -> None:
        """Keep its files."""
        kept = self.machine.snapshots[name] = Tree()
        kept.become(self.machine.files)

    async def revert(self, name: str) -> None:
        """Put its files back; what runs is ended."""
        self._endpoint.hang_up()
        self.machine.files.become(self.machine.snapshots[name])
        self.machine.power = "on"

    async def snapshots(self) -> Sequence[str]:
        """What is kept."""
        return list(self.machine.snapshots)

    async def logs(self) -> str:
        """What it printed."""
        return self.machine.log

    async def attach(self, *, lines: int) -> Attached:
        """Attach to its serial console; what it printed does not come first."""
        return Attached(self.machine.attach(), is_connected=True, others=0)

    async def screenshot(self) -> bytes:
        """A picture of its screen, which is blank."""
        return png(*_SCREEN, bytes(_SCREEN[0] * _SCREEN[1]))

    async def screen_text(self) -> str:
        """The text on it."""
        return self.machine.screen

    async def press(self, chords: Sequence[Chord]) -> None:
        """Remember keys."""
        names = {code: name for name, code in KEYS.items()}
        self.machine.keys += ["-".join(names[code] for code in chord) for chord in chords]


class FakeProvider:
    """Machines in memory, in microseconds, of any layout."""

    def __init__(
        self,
        world: World | None = None,
        *,
        kind: str = "fake",
        traits: Traits = TRAITS,
        lacks: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.traits = traits
        self.world = world if world is not None else World()
        self._lacks = lacks

    def check(self, plan: Plan | None = None) -> Sequence[Problem]:
        """Nothing: memory is there."""
        return ()

    async def create(self, planned: PlannedMachine, context: Context) -> FakeMeans:
        """Make a machine; it is ready at once."""
        hosts = context.plan.hosts_file(planned.networks)
        machine = self.world.create(planned, hosts=hosts)
        endpoint = FakeEndpoint(machine, peers=self.world.at, lacks=self._lacks)
        return FakeMeans(context.identity, endpoint, machine, endpoint)

    async def destroy(self, identity: Identity) -> None:
        """Forget a machine."""
        self.world.remove(identity.name)

    async def leftovers(self, run: str) -> Sequence[Identity]:
        """None: memory ends with its process."""
        return ()
