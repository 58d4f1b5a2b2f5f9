"""What one ``netns`` machine costs, when there are 10, 100 and 1000 of them on ten networks.

Time until it is up, answers a command and is gone, and private memory of all processes of the
run. Against: ``ip -batch`` making as many network namespaces, links and addresses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main
from benchmarks.layouts import live
from benchmarks.memory import descendants, private_mib
from benchmarks.sealed import sealed
from pytest_carthage import Layout, Machine, Network

COUNTS = (10, 100, 1000)
NETWORKS = 10


def spread(count: int) -> type[Layout]:
    """A layout of many machines on ten networks, declared in a loop."""
    networks = [Network(f"10.{n}.0.0/16") for n in range(NETWORKS)]
    members: dict[str, object] = {f"net{n}": network for n, network in enumerate(networks)}
    for n in range(count):
        members[f"m{n}"] = Machine(links={"eth0": networks[n % NETWORKS].at()})
    return Layout.of("Spread", members)


class Taken:
    """What one life of a layout cost, per machine."""

    def __init__(self, count: int) -> None:
        begin = time.perf_counter()
        layout = spread(count)
        with live(layout) as environment:
            self.up_ms = (time.perf_counter() - begin) / count * 1e3
            begin = time.perf_counter()
            for handle in environment:
                handle.run("true")
            self.answer_ms = (time.perf_counter() - begin) / count * 1e3
            supervisor = int((environment.folder.parent.parent / "lock").read_text())
            self.memory_mib = sum(private_mib(pid) for pid in descendants(supervisor)) / count
            begin = time.perf_counter()
        self.down_ms = (time.perf_counter() - begin) / count * 1e3


def script(count: int) -> str:
    """A shell script of ``ip -batch`` that makes the same network."""
    make = "\n".join(f"netns add m{n}" for n in range(count))
    links = [f"link add net{n} type bridge\nlink set net{n} up" for n in range(NETWORKS)]
    for n in range(count):
        links.append(f"link add p{n} type veth peer name eth0 netns m{n}")
        links.append(f"link set p{n} master net{n % NETWORKS} up")
    inside = []
    for n in range(count):
        host = n // NETWORKS + 1
        address = f"10.{n % NETWORKS}.{host // 256}.{host % 256}/16"
        lines = f"address add {address} dev eth0\nlink set eth0 up\nlink set lo up"
        inside.append(f"ip -n m{n} -batch - <<'END'\n{lines}\nEND")
    return "\n".join(
        [
            f"ip -batch - <<'END'\n{make}\nEND",
            "ip -batch - <<'END'\n" + "\n".join(links) + "\nEND",
            *inside,
        ]
    )


def with_ip(count: int) -> float:
    """Milliseconds per machine that the script takes, in namespaces that end with it."""
    with sealed() as inside:
        return inside.seconds(["sh", "-e"], input=script(count)) / count * 1e3


def each(count: int, rounds: int) -> Sequence[Figure]:
    """Figures of one number of machines."""
    lives: list[Taken] = []

    def live_once() -> float:
        lives.append(Taken(count))
        return lives[-1].up_ms

    ups, plain = in_turns(rounds, live_once, lambda: with_ip(count))
    counted = lives[-rounds:]
    return [
        Figure(
            what=f"one of {count} netns machines, until it is up",
            unit="ms",
            ours=ups,
            other=plain,
            versus="ip -batch",
        ),
        Figure(
            what=f"one of {count}, to answer a command",
            unit="ms",
            ours=tuple(one.answer_ms for one in counted),
        ),
        Figure(
            what=f"one of {count}, until it is gone",
            unit="ms",
            ours=tuple(one.down_ms for one in counted),
        ),
        Figure(
            what=f"memory of one of {count}, fabric and supervisor included",
            unit="MiB",
            ours=tuple(one.memory_mib for one in counted),
        ),
    ]


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    return [figure for count in COUNTS for figure in each(count, rounds)]


if __name__ == "__main__":
    main(take)
