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
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from pytest_carthage.fabric import machine as machines
from pytest_carthage.fabric import netlink, qdisc, relay
from pytest_carthage.fabric import syscalls as sys_

#: what happens in one direction, or None; see :meth:`.relay._Way.treat`
Fields = dict[str, Any]

_SIOCGIFMTU = 0x8921
_ANSWER_S = 10.0
#: needs the relay where there is no netem
_RELAYED = ("delay_s", "jitter_s", "duplicate", "corrupt")


def lacks(what: str) -> OSError:
    """The refusal of what this kernel cannot do."""
    return OSError(errno.EOPNOTSUPP, what)


def nft(rules: str) -> None:
    """Load a ruleset in the network namespace of the caller, all or nothing.

    :raises OSError: there is no nft, or it refused.
    """
    try:
        done = subprocess.run(
            ["nft", "-f", "-"],
            input=rules.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
    except FileNotFoundError:
        raise lacks("there is no nft (Debian package nftables)") from None
    if done.returncode:
        text = done.stdout.decode(errors="replace").strip()
        raise OSError(f"nft: {text}")


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
        self._undo: list[Callable[[], None]] = []
        self._relay: tuple[int, socket.socket] | None = None

    def treat(self) -> None:
        """Put what is wanted now into force.

        :raises OSError: with EOPNOTSUPP: nothing here can do it.
        """
        wanted = [spec for spec in (self.to, self.from_) if spec]
        if not wanted:
            self.clear()
            return
        if self._relay is not None:
            self._tell_relay()
            return
        self.clear()
        steps = [self._by_netem]
        plain = not any(spec.get(key) for spec in wanted for key in _RELAYED)
        steps += [self._by_filter] if plain else []
        steps += [self._by_relay]
        seen = []
        for step in steps:
            try:
                step()
            except OSError as error:
                self.clear()
                seen.append(str(error.strerror or error))
            else:
                return
        raise lacks("; ".join(seen))

    def clear(self) -> None:
        """Be an ordinary cable again."""
        if self._relay is not None:
            try:
                self._tell_relay()  # what waits there goes on
            except OSError:
                pass
        undo, self._undo = self._undo, []
        for step in reversed(undo):
            try:
                step()
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

    def _unqueue(self) -> None:
        batch = qdisc.Batch()
        batch.no_qdisc(self.port)
        batch.commit()

    def _new_ifb(self) -> str:
        name = f"cgi{self.index}"
        batch = qdisc.Batch()
        batch.ifb(name)
        batch.commit()

        def delete() -> None:
            gone = qdisc.Batch()
            gone.delete(name)
            gone.commit()

        self._undo.append(delete)
        return name

    def _filter(self, ingress: Sequence[str], egress: Sequence[str]) -> None:
        table = f"cg{self.index}"
        chains = [
            f'chain {hook} {{ type filter hook {hook} device "{self.port}" priority 0; '
            "policy accept;\n" + "\n".join(rules) + "\n}\n"
            for hook, rules in (("ingress", ingress), ("egress", egress))
            if rules
        ]
        if chains:
            nft(f"table netdev {table} {{\n{''.join(chains)}}}\n")
            self._undo.append(lambda: nft(f"delete table netdev {table}\n"))

    def _by_netem(self) -> None:
        """Both directions by netem; what comes from the machine passes an ifb first."""
        ingress = []
        if self.to:
            self._queue(self.port, "netem", qdisc.netem_options(self.to))
            self._undo.append(self._unqueue)
        if self.from_:
            ifb = self._new_ifb()
            self._queue(ifb, "netem", qdisc.netem_options(self.from_))
            ingress = [f'fwd to "{ifb}"']
        self._filter(ingress, ())
        self.mechanism = "netem"

    def _by_filter(self) -> None:
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
        self._filter(chains["ingress"], chains["egress"])
        self.mechanism = "nft and tbf"

    # by the relay

    def _by_relay(self) -> None:
        near, far = splice_names(self.port)
        batch = qdisc.Batch()
        batch.splice(near, far, mtu=self._mtu())
        batch.commit()
        batch = qdisc.Batch()
        batch.up(near)
        batch.commit()

        def end() -> None:
            self._end_relay()
            back = qdisc.Batch()
            back.delete(far)
            back.commit()

        # undone from the end: never are there two ways for a frame
        self._undo += [lambda: self._join(self.port), end]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_ANSWER_S)
        port, splice = relay.tap(self.port), relay.tap(near)
        try:

            def body() -> None:
                sys_.set_process_name(f"cg-relay:{self.port}")
                relay.serve(theirs, port, splice)

            pid = machines.fork(body, keep=(theirs.fileno(), port.fileno(), splice.fileno()))
            self._relay = pid, ours
        finally:
            for sock in (theirs, port, splice):
                sock.close()
        self._join(far)
        # from here to the relay's answer nothing passes: a frame must not go both ways
        leave = qdisc.Batch()
        leave.on_bridge(self.port, None)
        leave.commit()
        self._tell_relay()
        self.mechanism = "relay"

    def _join(self, interface: str) -> None:
        batch = qdisc.Batch()
        batch.on_bridge(interface, self.bridge)
        batch.commit()
        if self.is_wire:
            batch = qdisc.Batch()
            batch.wire_port(interface)
            batch.commit()
        netlink.wait_until_up([interface])

    def _tell_relay(self) -> None:
        assert self._relay is not None
        _, control = self._relay
        control.send(json.dumps({"to": self.to, "from": self.from_}).encode())
        if control.recv(16) != b"ok":
            raise OSError("the relay is gone")

    def _end_relay(self) -> None:
        if self._relay is None:
            return
        pid, control = self._relay
        self._relay = None
        control.close()
        try:
            os.kill(pid, signal.SIGKILL)  # reaped by the fabric's loop
        except ProcessLookupError:
            pass
