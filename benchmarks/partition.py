"""A partition of 20 links: how long until it is in force, and until it is healed.

The alternative writes the same rules with ``nft`` into a namespace with as many links.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.layouts import crowd, live
from benchmarks.sealed import sealed
from pytest_carthage.fabric.cuts import cut_rules
from pytest_carthage.live.faults.disturbance import Disturbance

LINKS = 20
_MS = 1000.0


def take(rounds: int) -> Sequence[Figure]:
    """Cut ten machines off from ten others, and heal it."""
    setup = ["ip link add br0 type bridge", "ip link set br0 up"]
    for number in range(LINKS):
        setup.append(f"ip link add p{number} type veth peer name e{number}")
        setup.append(f"ip link set p{number} master br0 up")
    groups = [
        {
            "ports": [f"p{number}" for number in numbers],
            "v4": [f"10.0.0.{number + 1}" for number in numbers],
            "v6": [],
            "shared": {},
        }
        for numbers in (range(LINKS // 2), range(LINKS // 2, LINKS))
    ]
    rules = cut_rules("cut", groups)
    with live(crowd(LINKS)) as environment, sealed(*setup) as other:
        names = [machine.name for machine in environment]
        sides = set(names[: LINKS // 2]), set(names[LINKS // 2 :])
        healing: list[float] = []
        other_healing: list[float] = []

        def ours() -> float:
            begun: list[Disturbance] = []

            def begin() -> None:
                begun.append(environment.partition(*sides))

            taken = seconds(begin)
            healing.append(seconds(begun[0].heal))
            return taken * _MS

        def theirs() -> float:
            taken = other.seconds(["nft", "-f", "-"], input=rules)
            other_healing.append(other.seconds(["nft", "delete", "table", "bridge", "cut"]))
            return taken * _MS

        begun, other_begun = in_turns(rounds, ours, theirs)
    return [
        Figure(
            what=f"a partition of {LINKS} links, until it is in force",
            unit="ms",
            ours=begun,
            other=other_begun,
            versus="`nft -f`",
            at_most=50,
        ),
        Figure(
            what="the same, until it is healed",
            unit="ms",
            ours=tuple(value * _MS for value in healing[1:]),
            other=tuple(value * _MS for value in other_healing[1:]),
            versus="`nft delete table`",
            at_most=50,
        ),
    ]


if __name__ == "__main__":
    main(take)
