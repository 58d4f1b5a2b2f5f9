"""Private memory of a machine of the ``netns`` target.

All processes of a run are counted, the supervisor and the fabric among them, and shared out to
the hundred machines; each machine has run a command. Of machines with systemd, that and its
services are left out: they are what the machine is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Figure, in_turns, main
from benchmarks.layouts import BOOTS, crowd, live

if TYPE_CHECKING:
    from pytest_carthage import Layout

COUNT = 100
#: with systemd
BOOTED = 30


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


def is_ours(pid: int) -> bool:
    """Whether it is not one of what runs in machines."""
    return Path(f"/proc/{pid}/comm").read_text().startswith(("cg:", "carthage-"))


def weigh(layout: type[Layout], count: int) -> tuple[float, float]:
    """MiB per machine: of its own process, and of all processes of the run shared out."""
    with live(layout) as environment:
        for number in range(count):
            environment[f"m{number}"].run("true")
        supervisor = int((environment.folder.parent.parent / "lock").read_text())
        ours = [pid for pid in descendants(supervisor) if is_ours(pid)]
        weights = {pid: private_mib(pid) for pid in ours}
        agents = [weight for pid, weight in weights.items() if is_agent(pid)]
        if len(agents) != count:
            raise RuntimeError(f"{len(agents)} agents of {count} machines")
        return sum(agents) / count, sum(weights.values()) / count


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    taken: list[tuple[float, float]] = []
    booted: list[tuple[float, float]] = []

    def once() -> float:
        taken.append(weigh(crowd(COUNT), COUNT))
        return 0.0

    def once_booted() -> float:
        booted.append(weigh(crowd(BOOTED, image=BOOTS, init="systemd"), BOOTED))
        return 0.0

    in_turns(rounds, once, once_booted)
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
        Figure(
            what="a machine with systemd, without that and its services, the same share included",
            unit="MiB",
            ours=tuple(shared for _, shared in booted),
            at_most=4,
        ),
    ]


if __name__ == "__main__":
    main(take)
