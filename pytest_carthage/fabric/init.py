"""The fabric's PID 1: bridges, machines, and the end of everything when its owner is gone.

It is forked by the run's supervisor and lives in its own network, mount, PID and IPC
namespaces (and user namespace, without privileges). When the pipe from the supervisor
closes, it exits, and the kernel removes all that is in those namespaces.

It serves everybody in one thread, and waits for nobody: what takes its time is done step by step
(see :mod:`.wire.steps`), and each machine is worked on by one at a time.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from pytest_carthage import clock
from pytest_carthage.fabric import netlink, record, roots, taps, uppers
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.agent import Agent, new_socket
from pytest_carthage.fabric.bridges import Bridges
from pytest_carthage.fabric.callers import Callers
from pytest_carthage.fabric.errands import Errands
from pytest_carthage.fabric.namespaces import Home, leave_host
from pytest_carthage.fabric.population import Population
from pytest_carthage.fabric.roots import Roots
from pytest_carthage.fabric.stations import Stations, take_addresses
from pytest_carthage.fabric.underlay import Underlays
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.server import Connection, Reply, Server
from pytest_carthage.fabric.wire.steps import Steps

if TYPE_CHECKING:
    from pytest_carthage.fabric.disturb import Disturbances
    from pytest_carthage.fabric.machine import Machine

__all__ = ["Fabric", "furnish", "leave_host"]


class Fabric:
    """Serves the operations that :mod:`pytest_carthage.fabric.wire.frames` lists for fabrics."""

    def __init__(self, listener: socket.socket, lifeline: int, *, unprivileged: bool) -> None:
        self.server = server = Server()
        self._home = Home()
        self._bridges = Bridges(server.watch)
        self._roots = Roots(unprivileged=unprivileged)
        self._population = Population(
            self._home, self._bridges, self._roots, server, unprivileged=unprivileged
        )
        self._errands = Errands()
        self._stations = Stations(self._home)
        #: what any agent can be asked for
        self._operations = Agent.operations()
        #: faults, from the first one on
        self._disturbances: Disturbances | None = None
        server.on_child = self._child_ended
        server.handlers = {
            "hello": lambda c, m, f: Reply(operations=sorted(server.handlers)),
            "channel": self._channel,
            "networks": self._networks,
            "machines": self._make,
            "attach": self._attach,
            "deputy": self._deputy,
            "stop": self._stop,
            "start": self._start,
            "booted": self._booted,
            "ended": self._ended,
            "oom": lambda c, m, f: Reply(kills=self._population.find(m["machine"]).oom_kills()),
            "plug": self._plug,
            "tap": self._tap,
            "root": self._root,
            "remove": self._remove,
            "spawn": lambda c, m, f: self._errands.spawn(c, m),
            "inside": self._inside,
            "socket": self._socket,
            "station": self._station,
            "hosts": self._hosts,
            "status": self._status,
            "disturb": self._disturb,
            "heal": self._heal,
            "cancel": self._cancel,
            **Underlays(self._home, self._bridges.index).handlers,
        }
        server.listen(listener)
        server.watch(lifeline, lambda: _end("its owner has let go of it, or is gone"))
        signal.signal(signal.SIGTERM, lambda number, frame: _end("somebody has sent it SIGTERM"))
        faulthandler.enable()

    def _child_ended(self, pid: int, status: int) -> None:
        if not self._errands.child_ended(pid, status) and not self._stations.child_ended(pid):
            self._population.child_ended(pid, status)

    def _cancel(self, connection: Connection, message: frames.Message, fds: list[int]) -> None:
        """Nobody waits for a request any more: a program or a fault that it began ends."""
        request = message["request"]
        self._errands.cancel(connection, request)
        for machine in self._population:
            machine.news.remove_watcher(connection, request)
        if self._disturbances is not None:
            for number in self._disturbances.unwanted((connection, request)):
                self.server.work(self._disturbances.heal(number))

    def _is_pulled(self, port: str) -> bool:
        return self._disturbances is not None and self._disturbances.is_down(port)

    # networks

    def _networks(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        self._bridges.add(message["networks"])
        return Reply()

    # machines

    def _make(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        self._population.names = message.get("hosts", self._population.names)
        return Reply(**(yield from self._population.make(message["machines"])))

    def _root(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        def work(machine: Machine) -> Steps[Reply]:
            path = yield from self._roots.mount(
                machine.name,
                lower=message["lower"],
                upper=message["upper"],
                work=message["work"],
            )
            return Reply(path=path)

        return self._population.in_turn(message["machine"], work)

    def _attach(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        def work(machine: Machine) -> Steps[Reply]:
            word = yield from machine.attach(message)
            return Reply(pid=machine.pid, warning=str(word.get("warning", "")))

        return self._population.in_turn(message["machine"], work)

    def _deputy(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        """Have somebody outside answer for a machine, which may be unknown here until now."""

        def work(machine: Machine) -> Steps[Reply]:
            yield from ()
            machine.appoint(fds[0])
            return Reply()

        name = self._population.elsewhere(message["machine"]).name
        return self._population.in_turn(name, work)

    def _channel(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply | None]:
        def work(machine: Machine) -> Steps[Reply | None]:
            yield from ()
            if self._disturbances is not None and self._disturbances.is_frozen(machine.name):
                raise LookupError(f"machine {machine.name!r} is frozen")
            if connection.sock.fileno() < 0:
                return None  # it went away meanwhile
            if machine.is_asleep:
                self._let_wait(machine, connection, message["id"])
            else:
                machine.hand_over(connection.sock.fileno(), message["id"])
                self.server.release(connection).close()
            return None

        return self._population.in_turn(message["machine"], work)

    def _let_wait(self, machine: Machine, connection: Connection, request: int) -> None:
        """Answer who has come to a machine's agent, which is started when he wants something."""

        def wake() -> None:
            self.server.work(self._population.in_turn(machine.name, self._population.wake))

        if machine.callers is None:
            machine.callers = Callers(wake)
        connection.answer(request, Reply(operations=self._operations))
        machine.callers.add(connection)

    def _stop(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        def work(machine: Machine) -> Steps[Reply]:
            yield from machine.end(message.get("timeout_s", 0.0))
            if machine.spec["kind"] == "process":
                machine.place.plug(self._bridges.pairs, up=False, pulled=self._is_pulled)
            return Reply()

        return self._population.in_turn(message["machine"], work)

    def _plug(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        def work(machine: Machine) -> Steps[Reply]:
            yield from ()
            machine.place.plug(self._bridges.pairs, up=message["up"], pulled=self._is_pulled)
            return Reply()

        return self._population.in_turn(message["machine"], work)

    def _start(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        def work(machine: Machine) -> Steps[Reply]:
            if machine.spec["kind"] != "process":
                raise ValueError("only a machine of kind 'process' is started by the fabric")
            if machine.pid is not None or machine.is_asleep:
                raise ValueError(f"machine {machine.name!r} runs already")
            machine.place.plug(self._bridges.pairs, up=True, pulled=self._is_pulled)
            yield from self._population.start(machine)
            return Reply(pid=machine.pid)

        return self._population.in_turn(message["machine"], work)

    def _ended(self, connection: Connection, message: frames.Message, fds: list[int]) -> None:
        """Is answered when the machine ends by itself, however often it is stopped until then."""
        self._population.find(message["machine"]).news.add_watcher(connection, message["id"])

    def _booted(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        # not in turn: whoever stops it must not wait for its start
        machine = self._population.find(message["machine"])
        return Reply(booted=(yield from machine.booted(message["timeout_s"])))

    def _remove(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        def work(machine: Machine) -> Steps[Reply]:
            if self._disturbances is not None:
                yield from self._disturbances.forget(machine.name)
            yield from self._population.remove(machine)
            return Reply()

        try:
            return (yield from self._population.in_turn(message["machine"], work))
        except LookupError:
            return Reply()  # somebody else was faster

    def _tap(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        machine = self._population.find(message["machine"])
        if machine.spec["kind"] != "tap" or message["port"] not in machine.place.ports:
            raise LookupError(f"machine {machine.name!r} has no tap {message['port']!r}")
        return Reply((taps.open_device(message["port"], offloads=bool(message.get("offloads"))),))

    # faults

    def _disturb(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        if self._disturbances is None:
            from pytest_carthage.fabric.disturb import Disturbances

            self._disturbances = Disturbances(self._population, self._bridges.pairs, self._home)
        origin = connection, message["id"]
        return Reply(**(yield from self._disturbances.begin(message, origin)))

    def _heal(
        self, connection: Connection, message: frames.Message, fds: list[int]
    ) -> Steps[Reply]:
        if self._disturbances is not None:
            yield from self._disturbances.heal(message["number"])
        return Reply()

    # programs of the host, and sockets

    def _network_of(self, message: frames.Message) -> int | None:
        """Descriptor of the network namespace of a request's machine; None: it names none.

        :raises LookupError: there is no such machine, or it has no network namespace here.
        """
        if not message.get("machine"):
            return None
        machine = self._population.find(message["machine"])
        if machine.place.namespace < 0:
            raise LookupError(f"machine {machine.name!r} has its network in a kernel of its own")
        return machine.place.namespace

    def _inside(self, connection: Connection, message: frames.Message, fds: list[int]) -> None:
        self._errands.inside(connection, message, fds, network=self._network_of(message))

    def _socket(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        network = self._network_of(message)
        if network is None:
            return Reply((new_socket(message),))
        with self._home.visit(network):
            return Reply((new_socket(message),))

    def _station(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        network = self._network_of(message)
        if network is None:
            raise LookupError("a station has a network of its own")
        with self._home.visit(network):
            take_addresses(message["addresses"])
        return Reply((self._stations.processes(message["machine"]),))

    # looking

    def _hosts(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        self._population.names = message["text"]
        return Reply()

    def _status(self, connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        return Reply(
            machines={
                machine.name: {
                    "pid": machine.pid,
                    "asleep": machine.is_asleep,
                    "deputy": machine.has_deputy,
                }
                for machine in self._population
            },
            networks=self._bridges.names,
            faults=self._disturbances.all if self._disturbances is not None else [],
            at_s=clock.unix_s(),
        )


def _end(reason: str) -> NoReturn:
    """End the fabric, and all that is in it, with a last word in its log."""
    record.write(f"the fabric ends: {reason}")
    os._exit(0)


def furnish() -> None:
    """First steps of PID 1: its own /proc, /run and shared memory, and quiet bridges."""
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    sys_.mount("proc", "/proc", "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)
    for path in ("/run", "/dev/shm"):
        sys_.mount("tmpfs", path, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    for name, value in (
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        # frames between machines are no business of the fabric's packet filter, which is empty
        ("bridge/bridge-nf-call-arptables", "0"),
        ("bridge/bridge-nf-call-ip6tables", "0"),
        ("bridge/bridge-nf-call-iptables", "0"),
    ):
        try:
            with open(f"/proc/sys/net/{name}", "w") as file:
                file.write(value)
        except OSError:
            pass  # a kernel without IPv6, or without br_netfilter
    roots.furnish()
    uppers.furnish()
    batch = netlink.Batch()
    batch.up("lo")
    batch.commit()
