"""A program: builds machines, and prints what their processes have of whoever has started it."""

from __future__ import annotations

import contextlib
import json
import sys

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.images.builder import ensure
from pytest_carthage.portal import Portal
from pytest_carthage.providers.netns import NetnsProvider
from tests.providers.conftest import DEBIAN
from tests.support.layouts import building

#: what a process has: name to what prints it
FACTS = {
    "niceness": "nice",
    "policy": "cut -d' ' -f41 /proc/self/stat",
    "io": "ionice",
    "oom_score_adj": "cat /proc/self/oom_score_adj",
    "personality": "cat /proc/self/personality",
    "coredump_filter": "cat /proc/self/coredump_filter",
    "timer slack": "cat /proc/self/timerslack_ns",
    "processors": "nproc",
    "umask": "umask",
    "files": "ulimit -Sn",
    "files, hard": "ulimit -Hn",
    "processes": "awk '/Max processes/ {print $3}' /proc/self/limits",
    "core": "ulimit -Sc",
    "time": "ulimit -t",
    "memory": "ulimit -v",
}
#: one fact a line
LOOK = "; ".join(FACTS.values())


class Bare(Layout):
    """What everybody can build."""

    lan = Network("10.0.0.0/24")
    bare = Machine(links={"eth0": lan.at(".1")})


class All(Bare):
    """One of each kind."""

    plain = Machine(
        DEBIAN,
        links={"eth0": Bare.lan.at(".2")},
        command=["sh", "-c", f"({LOOK}) > /srv/main 2>&1; touch /srv/done; sleep 1000"],
    )
    booted = Machine(DEBIAN, links={"eth0": Bare.lan.at(".3")}, init="systemd")


def main(layout: str) -> None:
    """Print a JSON object: who looked, to what was seen."""
    with (
        contextlib.closing(Portal()) as portal,
        building(portal, {"netns": NetnsProvider}) as build,
    ):
        if layout == "bare":
            print(json.dumps({"command": build(Bare).bare.run(LOOK).lines}))
            return
        portal.call(lambda: ensure(DEBIAN, portal=portal, note=lambda who, text: None))
        site = build(All)
        seen = {name: site[name].run(LOOK).lines for name in ("bare", "plain", "booted")}
        site.plain.run("until test -e /srv/done; do sleep 0.02; done")
        seen["main process"] = site.plain.run("cat /srv/main").lines
        seen["unit"] = site.booted.run(["systemd-run", "-qP", "sh", "-c", LOOK]).lines
        print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
