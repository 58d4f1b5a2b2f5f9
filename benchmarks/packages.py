"""Packages in a sealed machine, from the mirror of its layout: apt's lists, and ten packages.

Against: nothing; the bounds are what people wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks.harness import Figure, main, seconds
from benchmarks.layouts import live
from pytest_carthage import Image, Layout, Machine, Network

NAMES = ("bc", "cpio", "ed", "figlet", "file", "hello", "jq", "less", "pv", "tree")


class Shop(Layout):
    """Two machines: one has everything downloaded that the other one is measured with."""

    packages = "open"

    lan = Network("10.0.0.0/24")
    debian = Image.debian("bookworm").with_packages("dbus", "systemd-sysv")
    first = Machine(debian, init="systemd", links={"eth0": lan.at(".1")})


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures: each round has a new machine."""
    updates: list[float] = []
    installs: list[float] = []
    install = ["apt-get", "-q", "-y", "install", *NAMES]
    with live(Shop) as shop:
        shop["first"].run("apt-get -q update")
        shop["first"].run(install)
        for _ in range(rounds):
            machine = shop.add(
                Machine(Shop.debian, init="systemd", links={"eth0": Shop.lan.at(".9")}),
                name="measured",
            )
            updates.append(seconds(partial(machine.run, "apt-get -q update")))
            installs.append(seconds(partial(machine.run, install)))
            shop.remove("measured")
    return [
        Figure(what="apt-get update in a machine", unit="s", ours=tuple(updates), at_most=2),
        Figure(
            what="install of ten downloaded packages", unit="s", ours=tuple(installs), at_most=6
        ),
    ]


if __name__ == "__main__":
    main(take)
