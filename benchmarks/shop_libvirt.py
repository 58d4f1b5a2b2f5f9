"""``example_suites/shop`` with all its machines on libvirt, warm: what they are clones of is kept.

Whole process; a run takes minutes where processors are emulated, so there are few.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness import Figure, main
from benchmarks.shop_second_run import run
from pytest_carthage.providers.libvirt import host

_RUNS = 2


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure, in two runs after one that boots what the others clone."""
    way = "KVM" if host.acceleration().kind == "kvm" else "emulated"
    run("libvirt")
    taken = tuple(run("libvirt") for _ in range(_RUNS))
    what = f"example_suites/shop, all its machines on libvirt, warm ({way})"
    return [Figure(what=what, unit="s", ours=taken, at_most=180)]


if __name__ == "__main__":
    main(take)
