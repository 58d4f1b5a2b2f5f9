"""The machines of a fabric: made in batches, started and stopped, and removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_carthage import clock
from pytest_carthage.fabric import refusals, rootfs, uppers
from pytest_carthage.fabric.cabling import Cabling, clash
from pytest_carthage.fabric.container import ending, settings
from pytest_carthage.fabric.container.ending import Ending, last_line
from pytest_carthage.fabric.host import folders
from pytest_carthage.fabric.machine import Machine
from pytest_carthage.fabric.spec import elsewhere
from pytest_carthage.fabric.wire.steps import Steps, pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.fabric.bridges import Bridges
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.roots import Roots
    from pytest_carthage.fabric.spec import MachineSpec
    from pytest_carthage.fabric.wire.server import Server

T = TypeVar("T")

#: how long a batch may keep all others waiting: each pause makes the next fork dearer
_BREATH_S = 0.1
_TEMPLATE = "/run/carthage-template"


class Population:
    """All machines that there are, those included that are just being made or removed."""

    def __init__(
        self, home: Home, bridges: Bridges, roots: Roots, server: Server, *, unprivileged: bool
    ) -> None:
        self._machines: dict[str, Machine] = {}
        self._home = home
        self._cabling = Cabling(home, bridges)
        self._bridges = bridges
        self._roots = roots
        self._server = server
        self._unprivileged = unprivileged
        #: layer that an ordinary user's machines need
        self._template: str | None = None
        #: text of ``/etc/hosts`` of machines that start
        self.names = ""
        self._last_breath = 0.0
        #: whether any machine's agent was started
        self._has_agent = False

    def __iter__(self) -> Iterator[Machine]:
        return iter(list(self._machines.values()))

    def find(self, name: str) -> Machine:
        """The machine of a name.

        :raises LookupError: there is none.
        """
        try:
            return self._machines[name]
        except KeyError:
            names = ", ".join(self._machines) or "none"
            raise LookupError(f"no machine {name!r}; there are: {names}") from None

    def in_turn(self, name: str, work: Callable[[Machine], Steps[T]]) -> Steps[T]:
        """Do steps with a machine (``work(machine)``) when it is nobody else's turn.

        :raises LookupError: there is none, or not any more.
        """
        machine = self.find(name)
        yield from machine.turn.take()
        try:
            if machine.is_gone:
                self.find(name)
                raise LookupError(f"machine {name!r} was removed, and made again, meanwhile")
            return (yield from work(machine))
        finally:
            machine.turn.give()

    def child_ended(self, pid: int, status: int) -> None:
        """A child has ended, which may have been somebody's first process."""
        for machine in self._machines.values():
            if machine.pid == pid:
                machine.pid = None
                if machine.is_expected_to_end:
                    return
                machine.note_end(status)
                if machine.is_mortal:
                    work = self._take_in_end(machine, status, clock.unix_s())
                    self._server.work(machine.turn.hold(work))
                return

    def _take_in_end(self, machine: Machine, status: int, at_s: float) -> Steps[None]:
        """A machine has ended by itself; one that reboots is started again."""
        if machine.is_gone or machine.pid is not None or machine.is_expected_to_end:
            return  # somebody was faster
        how, number = ending.how(status)
        is_oom = how == "killed" and machine.is_oom(-number)
        machine.let_go()
        last = last_line(machine.spec["log"])
        if how == "reboot":
            machine.tell_end(Ending(how=how, status=number, at_s=at_s, last=last))
            try:
                yield from self.start(machine)
            except OSError as error:
                how, last = "lost", str(error)
        if how != "reboot":
            machine.place.plug(self._bridges.pairs, up=False, pulled=lambda port: False)
            machine.tell_end(Ending(how=how, status=number, at_s=at_s, last=last, is_oom=is_oom))

    # made

    def elsewhere(self, name: str) -> Machine:
        """The machine of a name, which may be unknown here until now, and be elsewhere."""
        if not folders.is_name(name):
            raise ValueError(f"a machine cannot be called {name!r:.80}")
        if name not in self._machines:
            self._machines[name] = Machine(elsewhere(name), self._home, self._server)
        return self._machines[name]

    def make(self, specs: list[MachineSpec]) -> Steps[dict[str, dict[str, Any]]]:
        """Make machines; returns who was ``made`` and who ``failed``, with the reason.

        :raises OSError: the kernel refused their links; none was made.
        """
        new: dict[str, Machine] = {}
        failed: dict[str, str] = {}
        whose = {port: machine.name for machine in self for port in machine.place.ports}
        for spec in specs:
            name = spec["name"]
            if not folders.is_name(name):
                failed[name] = f"a machine cannot be called {name!r:.80}"
                continue
            if name in self._machines:
                failed[name] = "there is a machine of this name already"
                continue
            if (reason := clash(spec, whose)) is not None:
                failed[name] = reason
                continue
            machine = self._machines[name] = new[name] = Machine(spec, self._home, self._server)
            machine.turn.is_taken = True  # until it is made, or is no more
        made = dict(new)
        try:
            try:
                yield from self._cabling.connect(new.values())
            except (OSError, LookupError, ValueError):
                for machine in new.values():
                    yield from self.remove(machine)
                raise
            yield from self._bring_up(made, failed)
        finally:
            for machine in new.values():
                machine.turn.give()
        return {
            "made": {
                name: {"pid": machine.pid, "netns": f"/proc/1/fd/{machine.place.namespace}"}
                for name, machine in made.items()
            },
            "failed": failed,
        }

    def _bring_up(self, made: dict[str, Machine], failed: dict[str, str]) -> Steps[None]:
        for machine in made.values():
            machine.is_asleep = self._may_sleep(machine)
        # one step after the other: forks in a row have the most memory in common
        for step in (
            self._configure,
            self._mount,
            self._prepare,
            self._fork,
            self._until_ready,
        ):
            for name, machine in list(made.items()):
                if machine.is_asleep and step != self._configure:
                    continue
                try:
                    yield from step(machine)
                except (OSError, ValueError) as error:
                    del made[name]
                    failed[name] = str(error)
                    try:
                        yield from self.remove(machine)
                    except OSError as worse:
                        failed[name] += f"; it is still there: {worse}"
        yield from self._cabling.until_up(made.values())

    def _may_sleep(self, machine: Machine) -> bool:
        """Whether a new machine's agent is started only when somebody wants something of it.

        It is not where the machine has a main process, or what the kernel might refuse, as one with
        an image. The first machine of all shows that agents can be started here.
        """
        spec = machine.spec
        is_idle = spec["kind"] == "process" and not spec["command"] and spec["limits"] is None
        if machine.root is not None:
            return False
        if is_idle and not self._has_agent:
            self._has_agent = True
            return False
        return is_idle

    def wake(self, machine: Machine) -> Steps[None]:
        """Start the agent of a machine that is asleep; it takes those who wait for it.

        :raises OSError: it does not start; the machine is off, and who waits is told why.
        """
        if not machine.is_asleep:
            return
        callers, machine.callers = machine.callers, None
        try:
            yield from self.start(machine)
            if callers is not None:
                callers.hand_over(lambda fd: machine.hand_over(fd, None))
        except OSError as error:
            if callers is not None:
                text = f"machine {machine.name!r} is off: its agent did not start: {error}"
                callers.refuse(OSError(error.errno, text))
            raise
        finally:
            machine.is_asleep = False

    def _breathe(self) -> Steps[None]:
        """Serve the others, if they have been waiting for a while."""
        if clock.monotonic_s() - self._last_breath > _BREATH_S:
            yield from pause(0.0)
            self._last_breath = clock.monotonic_s()

    def _configure(self, machine: Machine) -> Steps[None]:
        """Configure a machine's network."""
        if machine.place.namespace < 0:
            return
        yield from self._breathe()
        yield from self._cabling.configure(machine)

    def _mount(self, machine: Machine) -> Steps[None]:
        yield from machine.place.mount(self._roots)

    def _prepare(self, machine: Machine) -> Steps[None]:
        if machine.spec["kind"] != "process":
            return
        if machine.root is not None:
            settings.look_up()  # once for all
        else:
            uppers.mount(machine.name)
            if not self._unprivileged:
                rootfs.list_settings()  # once for all
            elif self._template is None:
                self._template = _TEMPLATE
                rootfs.prepare_template(_TEMPLATE)
        refusals.program(groups=machine.root is not None)  # once for all
        machine.prepare()
        yield from ()

    def _fork(self, machine: Machine) -> Steps[None]:
        if machine.spec["kind"] != "process":
            return
        yield from self._breathe()
        machine.fork(hosts=machine.spec.get("hosts") or self.names, template=self._template)

    def _until_ready(self, machine: Machine) -> Steps[None]:
        if machine.spec["kind"] == "process":
            yield from machine.until_ready()

    # switched

    def start(self, machine: Machine) -> Steps[None]:
        """Start a machine that was stopped; its links are in service already.

        One with an image starts with its network as planned, whatever was done in it before.

        :raises OSError: it does not start; it is off.
        """
        try:
            if machine.root is not None:
                yield from self._cabling.renew(machine)
            yield from self._prepare(machine)
            yield from self._fork(machine)
            yield from machine.until_ready()
        except OSError:
            yield from machine.end()
            raise

    # removed

    def remove(self, machine: Machine) -> Steps[None]:
        """Remove a machine with its links; what fails can be tried again.

        :raises OSError: something of it cannot be removed; it is still known.
        """
        yield from machine.end()
        machine.news.refuse(LookupError(f"machine {machine.name!r} was removed"))
        self._cabling.remove(machine)
        self._roots.unmount(machine.name)
        uppers.unmount(machine.name)
        machine.place.close()
        machine.is_gone = True
        self._cabling.remember(machine)
        del self._machines[machine.name]
