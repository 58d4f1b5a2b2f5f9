"""Machines that bring a kernel of their own: their cables end in tap devices."""

from __future__ import annotations

import errno
import os
import select
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.fabric.host import capability
from pytest_carthage.fabric.wire.client import Refused
from tests.fabric.bare import Fabric, ping
from tests.fabric.specs import machine_spec
from tests.fabric.test_outliving import NEIGHBOURS, impairment, join, lan, partition, pull

pytestmark = pytest.mark.real

MAC = bytes.fromhex("02000000000a")
OWN = bytes([10, 0, 0, 9])


@pytest.fixture
def tapped(fabric: Fabric) -> Fabric:
    """A machine of namespaces, a1, and one that is somebody's emulator, a9."""
    if (reason := capability.probe(["tun"])["tun"]) is not None:
        pytest.skip(f"no tap devices: {reason}")
    lan(fabric, "a1")
    fabric.make("a9", kind="tap", links=[{"network": "lan", "mtu": 1400}])
    return fabric


class Emulator:
    """Answers ARP and echo requests for 10.0.0.9, as a kernel of its own would."""

    def __init__(self, fabric: Fabric) -> None:
        with fabric.client() as asking:
            _, (self.fd,) = asking.request("tap", machine="a9", port="a9-eth0")

    def close(self) -> None:
        os.close(self.fd)

    def is_silent(self, fabric: Fabric) -> bool:
        """Whether a1 gets no echo from it for a while."""
        return not self.answers(fabric, limit_s=1)

    def answers(self, fabric: Fabric, limit_s: int = 8) -> bool:
        """Whether a1 gets an echo from it in time."""
        with fabric.client("a1") as inside:
            number = inside.send(
                "run",
                fds=_null(),
                argv=ping("10.0.0.9", limit_s),
                cwd="/",
            )
            reply = inside.receive_for(number)
            assert reply is not None
            waiting = inside.send("wait", job=reply[0]["job"])
            while True:
                ready, _, _ = select.select([self.fd, inside.fileno()], [], [], 10)
                if self.fd in ready:
                    self._answer()
                if inside.fileno() in ready:
                    end = inside.receive_for(waiting)
                    assert end is not None
                    return bool(end[0]["status"] == 0)

    def _answer(self) -> None:
        try:
            frame = os.read(self.fd, 4096)
        except BlockingIOError:
            return
        peer, kind, body = frame[6:12], frame[12:14], frame[14:]
        if kind == b"\x08\x06" and body[24:28] == OWN:  # ARP
            answer = body[:6] + b"\0\2" + MAC + OWN + body[8:18]
            os.write(self.fd, peer + MAC + kind + answer)
        elif kind == b"\x08\x00" and body[9] == 1 and body[20] == 8:
            swapped = body[:12] + body[16:20] + body[12:16]
            (total,) = struct.unpack_from("!H", body, 22)
            total += 0x0800  # type 8 is 0 now, RFC 1624
            echo = bytes([0, 0]) + struct.pack("!H", (total & 0xFFFF) + (total >> 16)) + body[24:]
            os.write(self.fd, peer + MAC + kind + swapped + echo)


def _null() -> tuple[int, int, int]:
    return (_NULL, _NULL, _NULL)


_NULL = os.open(os.devnull, os.O_RDWR)


def shown(fabric: Fabric, port: str, out: Path) -> str:
    """What the fabric's own network says of a port."""
    with out.open("w+b") as file, fabric.client() as asking:
        argv = ["ip", "-o", "-d", "link", "show", port]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        asking.request("inside", fds=(file.fileno(),) * 3, argv=argv, env=env)
        file.seek(0)
        return file.read().decode()


def test_tap_is_on_the_bridge_of_its_network_under_the_name_of_the_port(
    tapped: Fabric, tmp_path: Path
) -> None:
    text = shown(tapped, "a9-eth0", tmp_path / "out")
    for word in ("master br-lan", "mtu 1400", "tun type tap", "persist on", "NO-CARRIER"):
        assert word in text, text
    emulator = Emulator(tapped)
    assert "NO-CARRIER" not in shown(tapped, "a9-eth0", tmp_path / "out")
    assert emulator.answers(tapped)
    emulator.close()


def test_tap_is_opened_by_one_at_a_time_and_by_nobody_for_another_machine(tapped: Fabric) -> None:
    emulator = Emulator(tapped)
    with pytest.raises(Refused, match=r"tap a9-eth0: .*busy") as caught:
        Emulator(tapped)
    assert caught.value.errno == errno.EBUSY
    emulator.close()
    Emulator(tapped).close()
    for machine, port in (("a1", "a1-eth0"), ("a9", "a1-eth0")):
        with pytest.raises(Refused, match=f"machine '{machine}' has no tap '{port}'"):
            tapped.ask("tap", machine=machine, port=port)


def test_tap_that_is_pulled_comes_back_without_a_process(tapped: Fabric) -> None:
    emulator = Emulator(tapped)
    assert emulator.answers(tapped)
    number = tapped.ask("disturb", **pull("a9"))["number"]
    assert emulator.is_silent(tapped)
    tapped.ask("heal", number=number)
    assert emulator.answers(tapped)
    # off, as its provider says: then a heal waits for the next start
    tapped.ask("plug", machine="a9", up=False)
    number = tapped.ask("disturb", **pull("a9"))["number"]
    tapped.ask("heal", number=number)
    assert emulator.is_silent(tapped)
    tapped.ask("plug", machine="a9", up=True)
    assert emulator.answers(tapped)
    emulator.close()


@pytest.mark.parametrize(
    "fault",
    [impairment("a9", loss=1.0), impairment("a9", delay_s=20.0), partition("a1", "a9")],
    ids=["loss", "delay", "partition"],
)
def test_tap_takes_the_faults_of_any_cable(tapped: Fabric, fault: dict[str, Any]) -> None:
    emulator = Emulator(tapped)
    number = tapped.ask("disturb", **fault)["number"]
    assert emulator.is_silent(tapped)
    tapped.ask("heal", number=number)
    assert emulator.answers(tapped)
    emulator.close()


def test_tap_goes_with_its_machine_and_may_come_again(tapped: Fabric, tmp_path: Path) -> None:
    tapped.ask("disturb", **pull("a9"))
    tapped.ask("remove", machine="a9")
    assert "does not exist" in shown(tapped, "a9-eth0", tmp_path / "out")
    assert tapped.faults() == []
    tapped.make("a9", kind="tap", links=[{"network": "lan"}])
    emulator = Emulator(tapped)
    assert emulator.answers(tapped)
    emulator.close()


def test_machine_of_taps_has_no_network_namespace_here(tapped: Fabric) -> None:
    with pytest.raises(Refused, match="machine 'a9' has its network in a kernel of its own"):
        tapped.ask("socket", machine="a9")
    with pytest.raises(Refused, match="machine 'a9' is stopped"):
        tapped.client("a9")
    with pytest.raises(Refused, match="machine 'a9' is stopped"):
        tapped.ask("disturb", kind="freeze", machine="a9")


def test_tap_at_one_end_of_a_wire_is_seen_at_the_other(fabric: Fabric) -> None:
    if (reason := capability.probe(["tun"])["tun"]) is not None:
        pytest.skip(f"no tap devices: {reason}")
    fabric.ask("networks", networks=[{"bridge": "br-p", "mtu": None, "kind": "point-to-point"}])
    fabric.make("a1", links=[{"network": "p", "addresses": ["10.0.0.1/24"]}])
    fabric.make("a9", kind="tap", links=[{"network": "p"}])
    assert carrier(fabric, "0")  # nobody has opened it
    emulator = Emulator(fabric)
    assert carrier(fabric, "1")
    emulator.close()
    assert carrier(fabric, "0")


def carrier(fabric: Fabric, value: str, limit_s: float = 10.0) -> bool:
    """Whether a1 has a carrier in time, or none ("0")."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if fabric.run("a1", "cat /sys/class/net/eth0/carrier")[1].decode().strip() == value:
            return True
    return False


def test_link_that_cannot_end_in_a_tap_is_refused_by_name(tapped: Fabric) -> None:
    spec = machine_spec("a8", kind="tap", links=[{"network": "lan", "kind": "macvlan"}])
    with pytest.raises(Refused, match="link 'eth0' of kind macvlan cannot end in a tap"):
        tapped.ask("machines", machines=[spec], hosts="")
    assert set(tapped.ask("status")["machines"]) == {"a1", "a9"}
    join(tapped, "a8")
    assert NEIGHBOURS == {"hardware": {}, "machines": {}}
