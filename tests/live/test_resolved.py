"""What subscribers are told while a layout comes to life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from pytest_carthage import (
    CreationError,
    Layout,
    LayoutError,
    LinkResolved,
    Machine,
    Network,
    PublicAddressKnown,
    Role,
)
from pytest_carthage.live.resolved import NetworkEvent

Build = Callable[..., Layout]
pytestmark = pytest.mark.real


class Mute(Role):
    """Says that it serves DHCP, and does not."""

    serves_dhcp = True


def wired(*subscribers: Callable[[NetworkEvent], object]) -> type[Layout]:
    wire = Network("10.0.0.0/31", kind="point-to-point")
    return Layout.of(
        "Pair",
        {
            "wire": wire,
            "one": Machine(links={"eth0": wire.at(public_address="203.0.113.1")}),
            "two": Machine(links={"eth0": wire.at()}, after="one"),
            "subscribers": list(subscribers),
        },
    )


def test_both_ends_of_a_link_may_wait_for_each_other(build: Build) -> None:
    seen: dict[str, str] = {}
    order: list[str] = []

    async def configure(event: NetworkEvent) -> None:
        if not isinstance(event, LinkResolved):
            return
        order.append(f"{event.machine} resolved")
        far = {end: await future for end, future in event.far_ends.items()}
        seen[event.machine] = ", ".join(f"{end[0]} has {link.address}" for end, link in far.items())
        order.append(f"{event.machine} configured")

    build(wired(configure))
    assert seen == {"one": "two has 10.0.0.1/31", "two": "one has 10.0.0.0/31"}
    assert order[0] == "one resolved"
    assert sorted(order[1:]) == ["one configured", "two configured", "two resolved"]


def test_when_pending_futures_are_done_everything_has_happened(build: Build) -> None:
    events: list[LinkResolved] = []
    done: list[str] = []

    async def slow(event: NetworkEvent) -> None:
        if isinstance(event, LinkResolved):
            events.append(event)
            await asyncio.gather(*event.far_ends.values())
            await asyncio.sleep(0.05)
            done.append(event.machine)

    environment = build(wired(slow))
    assert sorted(done) == ["one", "two"]

    async def settled() -> bool:
        for event in events:
            await event.settled()
        return all(one.done() for event in events for one in event.pending)

    # the far end, which was not known, and the subscriber, who is told of a public address, too
    assert len(events[0].pending) == 3
    assert environment.aio.portal.call(settled)


def test_subscriber_that_waits_for_itself_is_told_so(build: Build) -> None:
    async def circular(event: NetworkEvent) -> None:
        if isinstance(event, LinkResolved):
            await event.settled()

    with pytest.raises(
        CreationError,
        match=r"subscriber .*circular of LinkResolved failed: RuntimeError: a subscriber of"
        r" one\.eth0 waits for itself; try: await its far_ends",
    ):
        build(wired(circular))


def test_public_address_is_told_to_plain_functions(build: Build) -> None:
    events: list[NetworkEvent] = []
    build(wired(events.append))
    (known,) = (event for event in events if isinstance(event, PublicAddressKnown))
    assert (known.machine, known.interface) == ("one", "eth0")
    assert known.address == IPv4Address("10.0.0.0")
    assert known.public_address == IPv4Address("203.0.113.1")


def test_machine_that_joins_is_told_and_finds_the_others(build: Build) -> None:
    events: list[LinkResolved] = []

    class Shop(Layout):
        lan = Network("10.0.0.0/24")
        one = Machine(links={"eth0": lan.at()})

    def told(event: NetworkEvent) -> None:
        if isinstance(event, LinkResolved):
            events.append(event)

    environment = build(Layout.of("Shop", {**vars_of(Shop), "subscribers": [told]}))
    environment.add(name="two", machine=Machine(links={"eth0": Shop.lan.at()}))
    assert [event.machine for event in events] == ["one", "two"]
    far = events[1].far_ends["one", "eth0"]
    assert far.done()
    assert str(far.result().address) == "10.0.0.1/24"
    handle = environment["two"].link("eth0")
    assert [repr(end) for end in handle.other_ends] == ["<link one.eth0 to lan>"]
    assert handle.resolved == handle.planned


def vars_of(layout: type[Layout]) -> dict[str, object]:
    return {**layout.networks(), **layout.machines()}


def test_subscriber_that_fails_fails_the_layout(build: Build) -> None:
    def broken(event: NetworkEvent) -> None:
        raise KeyError("vlan")

    with pytest.raises(CreationError, match=r"broken of LinkResolved failed: KeyError: 'vlan'"):
        build(wired(broken))


def test_subscribers_that_are_no_functions_are_refused() -> None:
    with pytest.raises(LayoutError, match=r"subscribers 7 is no list of functions"):
        Layout.of("Shop", {"subscribers": 7})


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), pytest.fail.Exception("no")])
def test_subscriber_that_wants_to_end_all_fails_its_layout_and_nothing_hangs(
    build: Build, error: BaseException
) -> None:
    def ends(event: NetworkEvent) -> None:
        raise error

    with pytest.raises(CreationError, match=f"ends of LinkResolved failed: {type(error).__name__}"):
        build(wired(ends))
    build(wired())  # the event loop of all layouts lives on


def test_far_end_that_its_machine_is_ready_without_holds_nobody_up(build: Build) -> None:
    seen: list[str] = []

    async def wait(event: NetworkEvent) -> None:
        if isinstance(event, LinkResolved):
            try:
                await asyncio.gather(*event.far_ends.values())
            except asyncio.CancelledError:
                seen.append(f"{event.machine} is told that nobody answers")

    lan = Network("10.0.0.0/24")
    optional = lan.at("auto", dhcp=True, required=False)
    members = {
        "lan": lan,
        "mute": Machine(links={"eth0": lan.at()}, roles=[Mute()]),
        "web": Machine(links={"eth0": optional}),
        "subscribers": [wait],
    }
    build(Layout.of("Quiet", members))
    assert seen == ["mute is told that nobody answers"]
