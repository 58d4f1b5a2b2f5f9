"""The snippets of ``docs/how-to/write-a-role.md``."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_carthage import (
    Image,
    Layout,
    LayoutError,
    Machine,
    Network,
    Role,
    filesystem_task,
    machine_task,
    port,
)
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.planning import make_plan
from pytest_carthage.roles import Certificate, CertificateAuthority, Postgres
from pytest_carthage.work.files.filesystem import Filesystem
from tests.providers.conftest import DEBIAN, Build, build, built, debian, podman, state

__all__ = ["build", "built", "debian", "podman", "state"]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-role.md"


# docs: role
@dataclass(frozen=True, slots=True, kw_only=True)
class Till(Role):
    packages = ("busybox",)
    offers, needs = ("till",), ("postgres",)
    shop: str
    port: int = 8080

    @filesystem_task("install the till")
    def install(self, fs: Filesystem) -> None:
        fs.template("till/index.html.j2", "/srv/till/index.html")

    @machine_task("start the till")
    def start(self, machine: MachineHandle) -> None:
        machine.run(f"busybox httpd -p {self.port} -h /srv/till")


# docs: layout
class Shop(Layout):
    debian = Image.debian("bookworm")
    tills = debian.with_(Till(shop="Corner"))  # built once, for all machines that have it
    lan = Network("10.0.0.0/24")

    db = Machine(debian, links={"eth0": lan.at(".1")}, roles=[Postgres()])
    till1 = Machine(tills, links={"eth0": lan.at(".11")}, wait_for=[port(8080)])
    till2 = Machine(debian, links={"eth0": lan.at(".12")}, roles=[Till(shop="Harbour", port=80)])


# docs: variants
@dataclass(frozen=True, slots=True, kw_only=True)
class LoudTill(Till):
    port: int = 8081  # another default
    volume: int = 11  # a parameter of its own

    @machine_task("start the till")  # in place of the other one
    def start(self, machine: MachineHandle) -> None:
        machine.run(f"busybox httpd -f -v -p {self.port} -h /srv/till >/var/log/till 2>&1 &")

    @machine_task("turn it up")  # after those of Till
    def turn_up(self, machine: MachineHandle) -> None:
        machine.write_text("/srv/till/volume", f"{self.volume}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeTill(Role):
    """A till with a certificate."""

    includes = (Certificate(), LoudTill(shop="Airport"))


# docs: end


def test_layout_is_looked_at_without_being_built() -> None:
    # docs: look
    assert Shop.till2.roles == (Till(shop="Harbour", port=80),)
    assert Shop.tills.roles == (Till(shop="Corner"),)
    assert list(Shop.offering("postgres")) == ["db"]
    assert list(Shop.with_role(Till)) == ["till1", "till2"]
    assert [task.title for task in Till(shop="any").tasks()] == [
        "install the till",
        "start the till",
    ]
    # docs: one machine
    quiet = Shop.till2.roles[0].but(port=8080)
    # docs: end
    assert quiet == Till(shop="Harbour")
    assert make_plan(Shop).machines["till1"].after == ("db",)


def test_mistake_is_told_at_once() -> None:
    with pytest.raises(LayoutError) as caught:
        Till(shop="Corner", port="80")  # type: ignore[arg-type]
    told, _, rest = str(caught.value).partition("; declared at ")
    assert told in PAGE.read_text()
    assert rest == f"{__file__}:{caught.traceback[0].lineno + 1}; try: port=80"


class Built(Shop):
    """The same with the image of the other tests."""

    debian = DEBIAN
    tills = DEBIAN.with_(Till(shop="Corner"))
    db = Shop.db.replace(image=DEBIAN)
    till1 = Shop.till1.replace(image=tills)
    till2 = Shop.till2.replace(image=DEBIAN)
    ca = Machine(DEBIAN, links={"eth0": Shop.lan.at(".2")}, roles=[CertificateAuthority()])
    till3 = Machine(DEBIAN, links={"eth0": Shop.lan.at(".13")}, roles=[SafeTill()])


def page(machine: MachineHandle, number: int, path: str = "") -> str:
    with (
        machine.forward(number) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as answer,
    ):
        text: str = answer.read().decode()
        return text


@pytest.mark.real
@pytest.mark.timeout(400)
def test_tills_are_open(build: Build) -> None:
    live = build(Built)
    assert page(live["till1"], 8080) == "The till of Corner, on port 8080.\n"
    assert page(live["till2"], 80) == "The till of Harbour, on port 80.\n"
    assert page(live["till3"], 8081) == "The till of Airport, on port 8081.\n"
    assert page(live["till3"], 8081, "volume") == "11\n"
    assert live["till3"].exists("/etc/ssl/carthage/server.key")
