"""A connection from inside a machine, to be used by the test: ``machine.connect(port, host)``.

Against: a plain connect to the same address, by a thread that is in the machine's network.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Callable, Sequence

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import crowd, live
from pytest_carthage.fabric import syscalls

#: connections of each kind in a round
CALLS = 50
PORT = 80
#: ioctl that gives the network namespace of a socket (linux/sockios.h)
_SIOCGSKNS = 0x894C


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures: by address, and by the name of a machine."""
    with live(crowd(2)) as environment, environment["m1"].socket() as server:
        machine, host = environment["m0"], environment["m1"].address()
        server.bind(("", PORT))
        server.listen(CALLS)

        def timed(connect: Callable[[], socket.socket]) -> float:
            made: list[socket.socket] = []
            taken = seconds(lambda: made.extend(connect() for _ in range(CALLS)))
            for sock in made:
                server.accept()[0].close()
                sock.close()
            return taken / CALLS * 1e3

        def plain() -> float:
            """In a thread of its own, which stays in the machine's network as long as it lives."""
            with machine.socket() as inside:
                namespace = fcntl.ioctl(inside, _SIOCGSKNS)
            result: list[float] = []

            def work() -> None:
                syscalls.setns(namespace, syscalls.CLONE_NEWNET)
                result.append(timed(lambda: socket.create_connection((host, PORT))))

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            os.close(namespace)
            return result[0]

        by_address, by_name, directly = in_turns(
            rounds,
            lambda: timed(lambda: machine.connect(PORT, host)),
            lambda: timed(lambda: machine.connect(PORT, "m1")),
            plain,
        )
    return [
        Figure(
            what=f"machine.connect(80, {how})",
            unit="ms",
            ours=ours,
            other=directly,
            versus="plain connect in the same namespace",
            at_most_more=1,
        )
        for how, ours in (("an address", by_address), ('"a name"', by_name))
    ]


if __name__ == "__main__":
    main(take)
