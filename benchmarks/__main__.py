"""All figures, one after the other, in one table: what ``docs/reference/benchmarks.md`` shows."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from benchmarks import (
    ansible_tasks,
    command,
    connect,
    deployment,
    image_durable,
    image_last_layer,
    image_podman_build,
    image_recognised,
    machines_100,
    memory,
    packages,
    partition,
    play,
    podman_16,
    routed,
    scaling,
    scopes,
    shop_libvirt,
    shop_second_run,
    ssh,
    startup,
    system_containers,
    testinfra_assertion,
    vm,
    whole_run,
)
from benchmarks.harness import Figure, main

_SCRIPTS = (
    machines_100,
    routed,
    command,
    connect,
    ssh,
    packages,
    partition,
    play,
    podman_16,
    system_containers,
    whole_run,
    testinfra_assertion,
    startup,
    shop_second_run,
    image_recognised,
    image_durable,
    image_last_layer,
    image_podman_build,
    deployment,
    ansible_tasks,
    memory,
    scaling,
    scopes,
    vm,
    shop_libvirt,
)


def take(rounds: int) -> Sequence[Figure]:
    """Take all figures."""
    figures: list[Figure] = []
    for script in _SCRIPTS:
        print(f"{script.__name__}...", file=sys.stderr, flush=True)
        try:
            figures.extend(script.take(rounds))
        except Exception:  # the others are still worth having
            traceback.print_exc()
    return figures


if __name__ == "__main__":
    main(take)
