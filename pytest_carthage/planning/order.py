"""Order among named things that wait for each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter

__all__ = ["batches", "cycle"]


def cycle(needs: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """A cycle, each name waiting for the next and the last being the first again; or nothing.

    :param needs: name to the names that it waits for.
    """
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return tuple(reversed(error.args[1]))
    return ()


def batches(needs: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The names in batches: each waits only for names of earlier batches.

    Within a batch the order is that of ``needs``. Waiting for a name that is no key holds nobody.

    :raises graphlib.CycleError: there is no such order.
    """
    position = {name: number for number, name in enumerate(needs)}
    sorter = TopologicalSorter(
        {name: [n for n in waits if n in position] for name, waits in needs.items()}
    )
    sorter.prepare()
    rounds: list[list[str]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=position.__getitem__)
        rounds.append(ready)
        sorter.done(*ready)
    return rounds
