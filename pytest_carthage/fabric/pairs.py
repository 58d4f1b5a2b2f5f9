"""Point-to-point networks: what one end of a wire does, the other end sees.

Such a network is a bridge with two ports. A bridge keeps its ports in service whatever happens
to the others; a wire does not: when one end has no carrier, for whatever reason, the other one
is taken out of service here, and put back with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pytest_carthage.fabric import netlink


class Pairs:
    """The point-to-point networks of a fabric."""

    def __init__(self, watch: Callable[[int, Callable[[], None]], None]) -> None:
        self._watch = watch
        self._news: netlink.News | None = None
        #: port to network
        self._network: dict[str, str] = {}
        #: ports that are out of service since their other end is
        self._held: set[str] = set()
        #: ports that somebody wants to be out of service
        self._unwanted: set[str] = set()

    def add(self, port: str, network: str) -> None:
        """Know one more end; a wire has two, whatever else is put on its bridge."""
        self.settle()  # the end that it replaces may have gone just now
        if list(self._network.values()).count(network) >= 2:
            return
        if self._news is None:
            self._news = netlink.News()
            self._watch(self._news.fileno(), self.settle)
        self._network[port] = network
        for end in (*self._others(port), port):
            if end in self._held:  # it had nobody at its other end
                self._release(end)
            self._look(end)

    def forget(self, ports: Iterable[str]) -> None:
        """Know nothing of ports any more: others may get their names."""
        self.settle()
        for port in ports:
            self._network.pop(port, None)
            self._held.discard(port)
            self._unwanted.discard(port)

    def set_ports(self, ports: Iterable[str], *, up: bool) -> None:
        """Take ports of the fabric in or out of service; other ends of wires follow."""
        ports = list(ports)
        if up:
            self._unwanted.difference_update(ports)
        else:
            self._unwanted.update(ports)
        batch = netlink.Batch()
        for port in ports:
            (batch.up if up and port not in self._held else batch.down)(port)
        batch.commit()
        self.settle()

    def settle(self) -> None:
        """Take in what has changed, until nothing changes."""
        if self._news is None:
            return
        while changed := self._news.read():
            for port in [*self._network] if None in changed else changed:
                if port in self._network:
                    self._look(port)

    def _others(self, port: str) -> list[str]:
        network = self._network[port]
        return [name for name, of in self._network.items() if of == network and name != port]

    def _look(self, port: str) -> None:
        alive, others = netlink.is_alive(port), self._others(port)
        if alive is None:
            del self._network[port]
            self._held.discard(port)
            self._unwanted.discard(port)
        if port in self._held:
            if alive:  # somebody else has put it in service
                self._apply(port)
            return  # it does what its other end does
        for other in others:
            if not alive:
                if other not in self._held:
                    self._held.add(other)
                    self._apply(other)
                continue
            if other in self._held:
                self._release(other)
            if not netlink.is_alive(other):  # it is out of service by itself, too
                self._held.add(port)
                self._apply(port)

    def _release(self, port: str) -> None:
        self._held.discard(port)
        self._apply(port)

    def _apply(self, port: str) -> None:
        batch = netlink.Batch()
        try:
            if port in self._held or port in self._unwanted:
                batch.down(port)
            else:
                batch.up(port)
            batch.commit()
        except OSError:
            pass  # gone meanwhile: the next news says so
