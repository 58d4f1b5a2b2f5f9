"""Power, faults and the end of machines."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable

import pytest

from pytest_carthage import Machine, TimeLimitError, UnsupportedError, file, port, rebooted
from pytest_carthage.errors import FabricError
from pytest_carthage.handles.capability import CAPABILITIES, Capability
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.provider import Ends, Identity
from tests.contract.conftest import Target
from tests.support.layouts import end


def test_machine_keeps_its_files_over_a_restart(target: Target) -> None:
    target.needs("power", "files")
    target.a.write_text("/srv/kept", "x")
    target.a.restart()
    assert target.a.read_text("/srv/kept") == "x"


def test_crashed_machine_is_off_until_it_heals(target: Target) -> None:
    target.needs("power", "run")
    with target.a.crash() as crashed:
        assert crashed.is_active
        with pytest.raises(FabricError, match="it is crashed; try: heal"):
            target.a.run("true")
        assert target.b.run("true").ok
    assert target.a.run("true").ok


def test_frozen_machine_answers_nothing_until_it_thaws(target: Target) -> None:
    target.needs("freeze", "run")
    with target.a.freeze(), pytest.raises(FabricError, match="it is frozen; try: heal"):
        target.a.run("true")
    assert target.a.run("true").ok


def test_cable_is_pulled_and_heals(target: Target) -> None:
    target.needs("links")
    for fault in (target.a.link("lan").down(), target.pair.partition("a", "b")):
        was_active = fault.is_active
        fault.heal()
        assert (was_active, fault.is_active) == (True, False)


def test_log_can_be_asked_for(target: Target) -> None:
    target.needs("logs")
    assert isinstance(target.a.logs(), str)


_ASKING: list[tuple[Capability, Callable[[Target], object]]] = [
    ("connect", lambda target: target.a.connect(80)),
    ("freeze", lambda target: target.a.freeze()),
    ("listening", lambda target: target.a.wait_for(port(80), timeout_s=1)),
    ("files", lambda target: target.a.wait_for(file("/x"), timeout_s=1)),
    ("logs", lambda target: target.a.logs()),
    ("observe", lambda target: target.a.observe()),
    ("plug", lambda target: target.a.plug_disk("data", size_mib=1)),
    ("power", lambda target: target.a.stop()),
    ("reset", lambda target: target.a.reset()),
    ("socket", lambda target: target.a.socket()),
    ("echo", lambda target: target.a.ping("127.0.0.1")),
    ("socket", lambda target: target.a.connect(53, protocol="udp")),
    ("links", lambda target: target.pair.partition("a", "b")),
    ("links", lambda target: target.pair.gate("a", to="localhost:9")),
]
_UDP, _, _GATE = _ASKING[-3:]


def test_missing_capability_is_refused_by_name(target: Target) -> None:
    asking = _ASKING.copy()
    if "listen" in getattr(target.a.aio.channel, "operations", ()):
        asking.remove(_GATE)  # who answers for it listens there
        if target.a.can("echo"):
            asking.remove(_UDP)  # and carries datagrams
    lacking = [(name, ask) for name, ask in asking if not target.a.can(name)]
    if not lacking:
        pytest.skip(f"target {target.kind!r} can do all of that")
    for capability, ask in lacking:
        with pytest.raises(UnsupportedError) as caught:
            ask(target)
        text = str(caught.value)
        assert f"target {target.kind!r} cannot {CAPABILITIES[capability]}" in text
        assert "; try: " in text
        if capability in ("freeze", "links"):
            assert f"() is used in {__file__}:" in text


# the end


def test_machine_is_added_and_removed(target: Target) -> None:
    target.needs("run")
    (declared,) = target.layout("c").machines().values()
    links = {"eth0": target.pair.lan.at("auto")} if declared.links else {}  # type: ignore[attr-defined]
    added = target.pair.add(
        Machine(declared.image, on=target.on("c"), links=links, init=target.init), name="c"
    )
    assert added.run("true").ok
    target.pair.remove("c")
    assert "c" not in target.pair
    again = target.pair.add(
        Machine(declared.image, on=target.on("c"), links=links, init=target.init), name="c"
    )
    assert again.run("true").ok
    target.pair.remove("c")


def test_destroying_twice_and_what_never_was_is_no_error(target: Target) -> None:
    layout = target.build(target.layout("d"))
    identity = layout["d"].aio._means.identity
    provider, call = target.provider, target.portal.call
    if provider.traits.outside:
        assert [left.name for left in call(provider.leftovers, identity.run)] == ["d"]
    call(provider.destroy, identity)
    call(provider.destroy, identity)
    never = Identity(kind=target.kind, run="r" * 12, environment="none", name="none")
    call(provider.destroy, never)
    assert list(call(provider.leftovers, identity.run)) == []
    end(layout)
    end(layout)


def test_closed_layout_leaves_nothing(target: Target) -> None:
    layout = target.build(target.layout("e"))
    identity = layout["e"].aio._means.identity
    end(layout)
    assert list(target.portal.call(target.provider.leftovers, identity.run)) == []


# power of its own


def _needs_own_power(target: Target) -> str:
    """The options by which its programs go off at once, or are told to."""
    # of a machine without power only who answers for it ends
    tells = isinstance(target.a.aio._means, Ends) and target.a.can("power")
    if target.kind == "podman" or not tells:
        pytest.skip(f"target {target.kind!r}: its machines have no power of their own")
    return "" if target.init == "systemd" else "-f"


def _boot_id(machine: MachineHandle) -> str:
    return machine.run("cat /proc/sys/kernel/random/boot_id").stdout


def test_reboot_brings_it_back_with_its_files_and_links(target: Target) -> None:
    option = _needs_own_power(target)
    target.a.write_text("/root/kept", "x")
    before = _boot_id(target.a)
    with contextlib.suppress(FabricError):  # it may go off before the command ends
        target.a.run(f"reboot {option}", check=False)
    target.a.wait_for(rebooted(), timeout_s=30)
    assert _boot_id(target.a) != before
    assert float(target.a.run("cat /proc/uptime").stdout.split()[0]) < 40
    assert target.a.read_text("/root/kept") == "x"
    assert target.b.ping("a") < 1
    with pytest.raises(TimeLimitError, match=r"no rebooted after 0\.2 s \(last: it is up\)"):
        target.a.wait_for(rebooted(), timeout_s=0.2)


DONE_BY_HAND = (
    "ip address add 10.9.9.9/24 dev eth0; ip link add by0 type veth peer name by1;"
    " ip route add blackhole 192.0.2.0/24; ip rule add from 192.0.2.1 lookup 99;"
    " ip link set eth0 mtu 1400; sysctl -qw net.ipv4.conf.eth0.rp_filter=1 net.core.somaxconn=77"
)


@pytest.mark.parametrize("way", ["reboot", "stop", "rename"])
def test_network_begins_anew_with_each_start(target: Target, way: str) -> None:
    option = _needs_own_power(target)
    look = "ip -o address; ip route; ip rule; ip -o link | cut -d@ -f1; cat /sys/class/net/eth0/mtu"
    look += "; sysctl -n net.core.somaxconn net.ipv4.conf.eth0.rp_filter"
    before = target.a.run(look).lines
    target.a.run(DONE_BY_HAND)
    assert target.a.run(look).lines != before
    if way == "rename":
        target.a.run("ip link set eth0 down; ip link set eth0 name other")
    if way == "reboot":
        with contextlib.suppress(FabricError):
            target.a.run(f"reboot {option}", check=False)
        target.a.wait_for(rebooted(), timeout_s=30)
    else:
        target.a.restart()
    assert _without_numbers(target.a.run(look).lines) == _without_numbers(before)
    assert target.b.ping("a") < 1


def _without_numbers(lines: list[str]) -> list[str]:
    """Lines of ip(8), whose interfaces have other numbers when they were made anew."""
    return sorted(line.partition(": ")[2] or line for line in lines)


def test_machine_that_powers_itself_off_says_so_and_can_be_started(target: Target) -> None:
    option = _needs_own_power(target)
    if option:  # at once: before the command's end can be told
        with pytest.raises(FabricError, match=r"'Pair': it powered itself off at [\d:]+"):
            target.a.run(f"poweroff {option}", check=False)
    else:
        with contextlib.suppress(FabricError):
            target.a.run("poweroff", check=False)
    deadline = time.monotonic() + 30
    while target.a.aio.is_up():
        assert time.monotonic() < deadline, "it did not go off"
        time.sleep(0.02)
    with pytest.raises(
        FabricError,
        match=r"machine 'a' of layout 'Pair': it powered itself off at [\d:]+.*; try: start\(\)",
    ):
        target.a.run("true")
    with pytest.raises(TimeoutError):
        target.b.ping("a", timeout_s=0.3)
    target.a.start()
    assert target.a.run("true").ok
    assert target.b.ping("a") < 1


# an agent that something in its machine ends: nobody is to notice who does not lose by it


_DEADLINE_S = 30.0
#: how the fabric tells of an agent, one of each: whose child it is not, and whose it is
_FATES = (
    r"its agent has hung up at \d\d:\d\d:\d\d; its process {pid} (is gone|ends)",
    r"its agent has ended by signal 9",
)


def _record(target: Target) -> str:
    return (target.pair.aio.folder / "fabric.log").read_text()


def _agent(target: Target) -> str:
    """Its process id, as the machine counts."""
    if target.kind not in ("netns", "podman"):
        pytest.skip(f"target {target.kind!r}: its endpoints are no processes of its machines")
    return target.a.run("grep -l ^cg: /proc/[0-9]*/comm", check=False).lines[0].split("/")[2]


def test_request_after_the_end_of_an_idle_agent_goes_to_its_successor(target: Target) -> None:
    for _ in range(3):
        pid = _agent(target)
        before = len(_record(target))
        target.a.run(f"(sleep 0.1; kill -9 {pid}) >/dev/null 2>&1 &")
        if pid == "1":
            assert target.init is None
            time.sleep(0.2)  # the kernel protects it: nothing is to be seen
            assert _agent(target) == "1"
            assert _record(target)[before:] == ""
            continue
        fates = [re.compile(f"machine 'a': {fate.format(pid=pid)}\n") for fate in _FATES]
        deadline = time.monotonic() + _DEADLINE_S
        while not any(fate.search(_record(target), before) for fate in fates):
            assert time.monotonic() < deadline, _record(target)[before:]
            time.sleep(0.001)
        assert target.a.run("echo here").stdout == "here\n"
        assert _agent(target) != pid


def test_command_that_was_under_way_is_told_to_be_lost(target: Target) -> None:
    pid = _agent(target)
    if pid == "1":
        pytest.skip("the kernel protects it")
    with pytest.raises(FabricError, match=r"machine 'a'.*has ended the agent.*; try: again"):
        target.a.run(f"kill -9 {pid}; sleep 30")
    assert target.a.run("true").ok
