"""A cable's end in the fabric, and how it is made bad: by the kernel, or by the relay.

Everything happens at the fabric's end, where the machine does not see it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from pytest_carthage.fabric import birth, netlink, nft, qdisc, relay
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.bridges import until_up
from pytest_carthage.fabric.wire.steps import Steps, Turn, readable

#: what happens in one direction, or None; see :meth:`.relay._Way.treat`
Fields = dict[str, Any]

_SIOCGIFMTU = 0x8921
_ANSWER_S = 10.0
#: needs the relay where there is no netem
_RELAYED = ("delay_s", "jitter_s", "duplicate", "corrupt")


def lacks(what: str) -> OSError:
    """The refusal of what this kernel cannot do."""
    return OSError(errno.EOPNOTSUPP, what)


def splice_names(port: str) -> tuple[str, str]:
    """What replaces a port on its bridge while the relay carries it: the relay's end, the other."""
    index = netlink.index_of(port)
    return f"cgr{index}", f"cgs{index}"


class Cable:
    """One port of the fabric, and what is done to it."""

    def __init__(self, port: str, bridge: str, *, is_wire: bool = False) -> None:
        self.port = port
        self.bridge = bridge
        #: whether the network is a wire, and its ports have to behave so
        self.is_wire = is_wire
        self.index = netlink.index_of(port)
        #: treatment of what goes to and comes from the machine
        self.to: Fields | None = None
        self.from_: Fields | None = None
        self.mechanism = ""
        #: one at a time treats it
        self.turn = Turn()
        self._undo: list[Callable[[], Steps[None]]] = []
        #: the relay, as a descriptor since its number may become another's, and its control
        self._relay: tuple[int, socket.socket] | None = None

    def treat(self) -> Steps[None]:
        """Put what is wanted now into force.

        :raises OSError: with EOPNOTSUPP: nothing here can do it.
        """
        wanted = [spec for spec in (self.to, self.from_) if spec]
        if not wanted:
            yield from self.clear()
            return
        if self._relay is not None:
            yield from self._tell_relay()
            return
        yield from self.clear()
        steps = [self._by_netem]
        plain = not any(spec.get(key) for spec in wanted for key in _RELAYED)
        steps += [self._by_filter] if plain else []
        steps += [self._by_relay]
        seen = []
        for step in steps:
            try:
                yield from step()
            except OSError as error:
                yield from self.clear()
                seen.append(str(error.strerror or error))
            else:
                return
        raise lacks("; ".join(seen))

    def clear(self) -> Steps[None]:
        """Be an ordinary cable again."""
        if self._relay is not None:
            try:
                yield from self._tell_relay()  # what waits there goes on
            except OSError:
                pass
        undo, self._undo = self._undo, []
        for step in reversed(undo):
            try:
                yield from step()
            except OSError:
                pass  # it went with its machine
        self.mechanism = ""

    def _mtu(self) -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = struct.pack("16si12x", self.port.encode(), 0)
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, request)
            return int(struct.unpack_from("=i", answer, 16)[0])

    # by the kernel

    def _queue(self, interface: str, kind: str, options: bytes) -> None:
        batch = qdisc.Batch()
        batch.qdisc(interface, kind, options)
        batch.commit()

    def _unqueue(self) -> Steps[None]:
        batch = qdisc.Batch()
        batch.no_qdisc(self.port)
        batch.commit()
        yield from ()

    def _new_ifb(self) -> str:
        name = f"cgi{self.index}"
        batch = qdisc.Batch()
        batch.ifb(name)
        batch.commit()

        def delete() -> Steps[None]:
            gone = qdisc.Batch()
            gone.delete(name)
            gone.commit()
            yield from ()

        self._undo.append(delete)
        return name

    def _filter(self, ingress: Sequence[str], egress: Sequence[str]) -> Steps[None]:
        table = f"cg{self.index}"
        chains = [
            f'chain {hook} {{ type filter hook {hook} device "{self.port}" priority 0; '
            "policy accept;\n" + "\n".join(rules) + "\n}\n"
            for hook, rules in (("ingress", ingress), ("egress", egress))
            if rules
        ]
        if chains:
            yield from nft.load(f"table netdev {table} {{\n{''.join(chains)}}}\n")
            self._undo.append(lambda: nft.load(f"delete table netdev {table}\n"))

    def _by_netem(self) -> Steps[None]:
        """Both directions by netem; what comes from the machine passes an ifb first."""
        ingress = []
        if self.to:
            self._queue(self.port, "netem", qdisc.netem_options(self.to))
            self._undo.append(self._unqueue)
        if self.from_:
            ifb = self._new_ifb()
            self._queue(ifb, "netem", qdisc.netem_options(self.from_))
            ingress = [f'fwd to "{ifb}"']
        yield from self._filter(ingress, ())
        self.mechanism = "netem"

    def _by_filter(self) -> Steps[None]:
        """Loss by nftables, rate by a token bucket; from the machine, behind an ifb."""
        chains: dict[str, list[str]] = {"ingress": [], "egress": []}
        for spec, chain in ((self.to, "egress"), (self.from_, "ingress")):
            if not spec:
                continue
            if spec.get("loss"):
                share = round(spec["loss"] * 1_000_000)
                rule = "drop" if share >= 1_000_000 else ""
                chains[chain].append(rule or f"numgen random mod 1000000 < {share} drop")
            if spec.get("rate_bps"):
                if chain == "egress":
                    interface = self.port
                    self._undo.append(self._unqueue)
                else:
                    interface = self._new_ifb()
                    chains[chain].append(f'fwd to "{interface}"')
                self._queue(interface, "tbf", qdisc.tbf_options(spec["rate_bps"], self._mtu()))
        yield from self._filter(chains["ingress"], chains["egress"])
        self.mechanism = "nft and tbf"

    # by the relay

    def _by_relay(self) -> Steps[None]:
        near, far = splice_names(self.port)
        batch = qdisc.Batch()
        batch.splice(near, far, mtu=self._mtu())
        batch.commit()
        batch = qdisc.Batch()
        batch.up(near)
        batch.commit()

        def end() -> Steps[None]:
            yield from ()
            self._end_relay()
            back = qdisc.Batch()
            back.delete(far)
            back.commit()

        # undone from the end: never are there two ways for a frame
        self._undo += [lambda: self._join(self.port), end]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        port, splice = relay.tap(self.port), relay.tap(near)
        try:

            def body() -> None:
                sys_.set_process_name(f"cg-relay:{self.port}")
                relay.serve(theirs, port, splice)

            pid = birth.fork(body, keep=(theirs.fileno(), port.fileno(), splice.fileno()))
            self._relay = os.pidfd_open(pid), ours
        finally:
            for sock in (theirs, port, splice):
                sock.close()
        yield from self._join(far)
        # from here to the relay's answer nothing passes: a frame must not go both ways
        leave = qdisc.Batch()
        leave.on_bridge(self.port, None)
        leave.commit()
        yield from self._tell_relay()
        self.mechanism = "relay"

    def _join(self, interface: str) -> Steps[None]:
        batch = qdisc.Batch()
        batch.on_bridge(interface, self.bridge)
        batch.commit()
        if self.is_wire:
            batch = qdisc.Batch()
            batch.wire_port(interface)
            batch.commit()
        yield from until_up([interface])

    def _tell_relay(self) -> Steps[None]:
        assert self._relay is not None
        _, control = self._relay
        control.send(json.dumps({"to": self.to, "from": self.from_}).encode())
        if not (yield from readable(control.fileno(), _ANSWER_S)):
            raise OSError(f"the relay does not answer within {_ANSWER_S:g} s")
        if control.recv(16) != b"ok":
            raise OSError("the relay is gone")

    def _end_relay(self) -> None:
        if self._relay is None:
            return
        process, control = self._relay
        self._relay = None
        control.close()
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)  # reaped by the fabric's loop
        except ProcessLookupError:
            pass
        finally:
            os.close(process)
