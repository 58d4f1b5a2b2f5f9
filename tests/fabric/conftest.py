"""A fabric of a test's own, asked directly: machines from specifications made by hand."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.fabric.host import privilege
from pytest_carthage.fabric.wire import client
from pytest_carthage.portal import Portal
from pytest_carthage.state.run import Run, new_name
from tests.fabric.bare import Fabric, start
from tests.fabric.specs import machine_spec
from tests.support.host import netns_lacks


class Bench:
    """One fabric, and what a test does with it."""

    def __init__(self, portal: Portal, run: Run, folder: Path, fabric: Any) -> None:
        self._portal = portal
        self.run = run
        self.folder = folder
        self._fabric = fabric

    def ask(self, op: str, /, *, fds: Sequence[int] = (), **fields: Any) -> dict[str, Any]:
        """Ask the fabric."""

        async def go() -> tuple[dict[str, Any], list[int]]:
            answer: tuple[dict[str, Any], list[int]] = await self._fabric.request(
                op, fds=fds, **fields
            )
            return answer

        return self._portal.call(go)[0]

    def networks(self, **kinds: str) -> None:
        """Make networks: name to kind."""
        self.ask(
            "networks",
            networks=[
                {"bridge": f"br-{name}", "mtu": None, "kind": kind} for name, kind in kinds.items()
            ],
        )

    def machine(self, name: str, *links: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
        """Make a machine; returns what failed, which is empty as a rule."""
        return self.machines({"name": name, "links": list(links), **spec})

    def machines(self, *specs: Mapping[str, Any]) -> dict[str, Any]:
        """Make machines in one batch."""
        full = [
            machine_spec(**{"log": str(self.folder / "logs" / f"{spec['name']}.log"), **spec})
            for spec in specs
        ]
        failed: dict[str, Any] = self.ask("machines", machines=full, hosts="")["failed"]
        return failed

    def run_in(self, machine: str, command: str, *, check: bool = True) -> str:
        """Run a shell command in a machine; returns what it printed."""
        with client.connect(str(self.folder / "fabric.sock"), machine) as agent:
            status, out, err = agent.run(["sh", "-c", command], timeout_s=30)
        assert not (check and status), f"{machine}: {command}: {status}\n{out!r}\n{err!r}"
        return (out + err).decode()

    def socket_of(self, machine: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of a machine's network."""
        with client.connect(str(self.folder / "fabric.sock")) as fabric:
            _, fds = fabric.request(
                "socket", machine=machine, family=family, type=kind, proto=protocol
            )
        return socket.socket(fileno=fds[0])

    def pings(self, machine: str, address: str, *, size_bytes: int = 56) -> bool:
        """Whether an address answers a machine within three seconds, packets not fragmented."""
        six = ":" in address
        family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, 1)
        level, option = (41, 23) if six else (0, 10)  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
        request = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 0, 1) + bytes(size_bytes)
        with self.socket_of(machine, family, socket.SOCK_DGRAM, protocol) as sock:
            sock.setsockopt(level, option, 2)
            sock.settimeout(0.5)
            for _ in range(6):
                try:
                    sock.sendto(request, (address, 0))
                    if len(sock.recv(1 << 16)) == len(request):
                        return True
                except OSError:  # no answer, no route yet, or too long
                    time.sleep(0.05)
        return False

    def inside(self, command: str) -> str:
        """Run a shell command of the host in the fabric's own network."""
        out = self.folder / "out"
        with out.open("wb") as file:
            reply = self.ask(
                "inside",
                fds=(file.fileno(), file.fileno(), file.fileno()),
                argv=["sh", "-c", command],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        assert reply["status"] == 0, out.read_text()
        return out.read_text()


@pytest.fixture
def bench_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Bench]]:
    """Makes fabrics, destroyed at the end of the test."""
    problems = netns_lacks()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    portal = Portal()
    benches: list[Bench] = []

    def make() -> Bench:
        async def go() -> Bench:
            run = await Run.join(new_name())
            folder, fabric = await run.environment(
                f"{run.name}-bench", {}, unprivileged=not privilege.is_privileged()
            )
            return Bench(portal, run, folder, fabric)

        benches.append(portal.call(go))
        return benches[-1]

    async def leave(bench: Bench) -> None:
        await bench.run.destroy(f"{bench.run.name}-bench")
        bench.run.close()

    try:
        yield make
    finally:
        for bench in benches:
            portal.call(leave, bench)
        portal.close()


@pytest.fixture
def bench(bench_factory: Callable[[], Bench]) -> Bench:
    """One fabric."""
    return bench_factory()


@pytest.fixture
def fabric_factory(tmp_path: Path) -> Iterator[Callable[..., Fabric]]:
    """Makes fabrics without a layout, one of which at a time ends with the test."""
    problems = netns_lacks()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    with contextlib.ExitStack() as stack:

        def make(code: str = "") -> Fabric:
            process = start(tmp_path / "fabric.sock", code)
            stack.enter_context(process)
            assert process.stdin is not None
            stack.callback(process.stdin.close)
            return Fabric(str(tmp_path / "fabric.sock"), process)

        yield make


@pytest.fixture
def fabric(fabric_factory: Callable[..., Fabric]) -> Fabric:
    """A fabric as it should be."""
    return fabric_factory()
