"""A hundred machines of the ``netns`` target on one network, declared to ready, and to answered.

Ready: each one's network is in service, and its handle can be used. What a command needs beside
that, a process tree and file system of its own, a machine gets with its first command; answered
is when each has run one.

Against: ``ip -batch`` making the same hundred network namespaces, links and addresses. It makes
no processes, file systems, host names or name tables, and no way in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main
from benchmarks.layouts import crowd, live
from benchmarks.sealed import sealed

COUNT = 100


def declared_to_ready(count: int = COUNT) -> float:
    """Seconds from before the class exists until every machine can be used."""
    begin = time.perf_counter()
    layout = crowd(count)
    with live(layout) as environment:
        taken = time.perf_counter() - begin
        first, last = environment["m0"], environment[f"m{count - 1}"]
        if first.ping(last.address()) > 0.5:
            raise RuntimeError("declared ready, but slow to answer")
    return taken


def declared_to_answered(count: int = COUNT) -> float:
    """Seconds from before the class exists until every machine has run a command."""
    begin = time.perf_counter()
    layout = crowd(count)
    with live(layout) as environment:

        async def ask() -> None:
            await asyncio.gather(*(machine.aio.run("true") for machine in environment))

        asyncio.run(ask())
        return time.perf_counter() - begin


def batches(count: int) -> str:
    """A shell script of ``ip -batch`` that makes the same network."""
    make = "\n".join(f"netns add m{n}" for n in range(count))
    links = ["link add lan type bridge", "link set lan up"]
    for n in range(count):
        links.append(f"link add p{n} type veth peer name eth0 netns m{n}")
        links.append(f"link set p{n} master lan up")
    script = [
        f"ip -batch - <<'END'\n{make}\nEND",
        "ip -batch - <<'END'\n" + "\n".join(links) + "\nEND",
    ]
    for n in range(count):
        address = f"10.0.{(n + 1) // 256}.{(n + 1) % 256}/16"
        inside = f"address add {address} dev eth0\nlink set eth0 up\nlink set lo up"
        script.append(f"ip -n m{n} -batch - <<'END'\n{inside}\nEND")
    return "\n".join(script)


def with_ip(count: int = COUNT) -> float:
    """Seconds that the script takes, in namespaces that end with it."""
    with sealed() as inside:
        return inside.seconds(["sh", "-e"], input=batches(count))


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    ready, answered, plain = in_turns(rounds, declared_to_ready, declared_to_answered, with_ip)
    return [
        Figure(
            what=f"{COUNT} netns machines on one network, declared to ready",
            unit="s",
            ours=ready,
            other=plain,
            versus="ip -batch",
            at_most_times=1.5,
        ),
        Figure(
            what="the same, and each has run its first command, all at once",
            unit="s",
            ours=answered,
            other=plain,
            versus="ip -batch",
        ),
    ]


if __name__ == "__main__":
    main(take)
