"""Live layouts without pytest, for measuring what a layout itself costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pytest_carthage import Image, Layout, Machine, Network
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.planning import make_plan
from pytest_carthage.portal import Portal
from pytest_carthage.provider import load_providers
from pytest_carthage.providing import Providers
from pytest_carthage.state.run import Run, new_name

__all__ = ["BOOTS", "IMAGE", "REFERENCE", "crowd", "live"]

#: of machines with systemd
BOOTS = Image.debian("bookworm", packages=["systemd-sysv", "dbus", "iproute2", "python3"])

#: of every podman machine here; the alternative's containers have the same one
IMAGE = Image.debian(
    "bookworm", packages=["iproute2", "iputils-ping", "nftables", "python3"]
).with_(tag="localhost/carthage-benchmark:1")
#: its name in podman's own store
REFERENCE = IMAGE.tag or ""


def crowd(
    count: int,
    *,
    image: Image | None = None,
    on: str | None = None,
    init: Literal["systemd"] | None = None,
) -> type[Layout]:
    """A layout of many machines on one network, declared in a loop."""
    lan = Network("10.0.0.0/16")
    machines = {
        f"m{n}": Machine(image, on=on, init=init, links={"eth0": lan.at("auto")})
        for n in range(count)
    }
    return Layout.of("Crowd", {"lan": lan, **machines})


@contextmanager
def live(layout: type[Layout]) -> Iterator[Layout]:
    """The layout, built as a test session builds it; destroyed at the end."""
    portal = Portal()
    joined: list[Run] = []

    async def build() -> AsyncLayout:
        run = await Run.join(new_name())
        joined.append(run)
        return await AsyncLayout.build(
            make_plan(layout),
            name=f"{run.name}-{layout.__name__.lower()}",
            run=run,
            providers=Providers(load_providers()),
            portal=portal,
        )

    async def leave() -> None:
        for run in joined:
            run.close()

    try:
        environment = layout(portal.call(build))
        try:
            yield environment
        finally:
            portal.call(environment.aio.close)
    finally:
        portal.call(leave)
        portal.close()
