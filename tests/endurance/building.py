"""Accepted declarations, built for real: over the host's files, on the target ``netns``."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

from pytest_carthage.errors import HostError
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from tests.endurance.author import write
from tests.endurance.trial import attempt
from tests.support.layouts import building, end

__all__ = ["build_some"]

_MOST_TRIES = 200_000


def build_some(seed: int, count: int) -> bool:
    """Build, use and end some that were accepted; tells those that could not be.

    :returns: whether all could be.
    """
    begun = time.monotonic()
    built = failed = lacking = 0
    with tempfile.TemporaryDirectory(prefix="declarations-") as folder:
        os.environ["CARTHAGE_STATE"] = str(Path(folder) / "state")
        portal = Portal()
        try:
            with building(portal, {"netns": NetnsProvider}) as build:
                for number in range(_MOST_TRIES):
                    if built + failed == count:
                        break
                    program = write(Random(f"{seed}:build:{number}"), is_plain=True)
                    trial = attempt(program)
                    if trial.plan is None or not trial.plan.machines or trial.fault:
                        continue
                    if any(one.roles for one in trial.plan.machines.values()):
                        continue  # what they start is told of by their own tests
                    try:
                        layout = build(trial.layout)
                        for machine in layout:
                            assert machine.run("echo there").stdout == "there\n", machine
                        end(layout)
                        built += 1
                    except HostError:
                        lacking += 1  # the right answer: this kernel has no bonds
                    except Exception:
                        failed += 1
                        print(f"\n--- number {number} was accepted, and cannot be built\n{program}")
                        traceback.print_exc(limit=-3)
        finally:
            portal.close()
    took_s = time.monotonic() - begun
    print(
        f"{built} of {built + failed} accepted ones were built and ended in {took_s:.0f} s; "
        f"{lacking} more ask for what this host lacks"
    )
    return not failed
