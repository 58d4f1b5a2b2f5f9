"""Private memory of a machine of the ``netns`` target.

All processes of a run are counted, the supervisor and the fabric among them, and shared out to
the hundred machines; each machine has run a command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main
from benchmarks.layouts import crowd, live

COUNT = 100


def private_mib(pid: int) -> float:
    """Private memory of a process, see proc_pid_smaps_rollup(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def descendants(pid: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from descendants(int(child))


def is_agent(pid: int) -> bool:
    """Whether it is a machine's own process."""
    return Path(f"/proc/{pid}/comm").read_text().startswith("cg:")


def weigh() -> tuple[float, float]:
    """MiB per machine: of its own process, and of all processes of the run shared out."""
    with live(crowd(COUNT)) as environment:
        for number in range(COUNT):
            environment.handle(f"m{number}").run("true")
        supervisor = int((environment.folder.parent.parent / "lock").read_text())
        everyone = list(descendants(supervisor))
        weights = {pid: private_mib(pid) for pid in everyone}
        agents = [weight for pid, weight in weights.items() if is_agent(pid)]
        if len(agents) != COUNT:
            raise RuntimeError(f"{len(agents)} agents of {COUNT} machines")
        return sum(agents) / COUNT, sum(weights.values()) / COUNT


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    taken: list[tuple[float, float]] = []

    def once() -> float:
        taken.append(weigh())
        return 0.0

    in_turns(rounds, once)
    return [
        Figure(
            what="private memory of a netns machine",
            unit="MiB",
            ours=tuple(own for own, _ in taken),
            at_most=3,
        ),
        Figure(
            what="the same, its share of fabric and supervisor included",
            unit="MiB",
            ours=tuple(shared for _, shared in taken),
            at_most=3,
        ),
    ]


if __name__ == "__main__":
    main(take)
