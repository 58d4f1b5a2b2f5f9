"""Labs of three kinds, alive; the snippets of ``docs/how-to/bring-your-lab.md``."""

from __future__ import annotations

import os

import pytest

from pytest_carthage import Layout, Machine
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.podman import PodmanProvider
from tests.providers.conftest import DEBIAN

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="machines with images are built by root"),
    pytest.mark.skipif(bool(NetnsProvider().check()), reason="this host has no machines"),
]

with pytest.warns(UserWarning, match="the layout has not all of it as it is there"):  # noqa: PT031
    # docs: containerlab
    class Clos(Layout.from_containerlab("../labs/clos/clos.clab.yml", images={"alpine:3": DEBIAN})):  # type: ignore[misc]
        """The lab, with a client more."""

        client3 = Machine(DEBIAN)

    clos = Clos.fixture()
    # docs: kathara
    Campus = Layout.from_kathara("../labs/campus", images={"kathara/base": DEBIAN})
    campus = Campus.fixture()
    # docs: compose
    Shop = Layout.from_compose(
        "../labs/shop/compose.yaml", images={"shop/web:1": DEBIAN, "shop/db:1": DEBIAN}
    )
    shop = Shop.fixture()
    # docs: end
    Inside = Layout.from_compose(
        "../labs/shop/compose.yaml",
        images={"shop/web:1": DEBIAN, "shop/db:1": DEBIAN},
        on=None,
    )
    inside = Inside.fixture()


# docs: test
def test_client_reaches_the_other_through_the_leaves(clos: Layout) -> None:
    assert clos["client1"].ping("client2") < 5
    assert clos["client1"].read_text("/etc/motd") == "Welcome to the lab\n"


# docs: not_taken
def test_lab_is_taken_but_for_this() -> None:
    assert [remark.what for remark in Campus.not_taken] == [
        "machine 'pc2': port is not taken: machine.forward(PORT) leads to a port while a test wants"
        " it",
    ]


# docs: end


def test_commands_are_run_at_each_start(clos: Layout) -> None:
    client1, client2 = clos["client1"], clos["client2"]
    assert client1.read_text("/srv/site") == "lab\n"
    mtu = "cat /sys/class/net/lo/mtu"
    assert client2.run(mtu).lines == ["1400"]
    client2.restart()
    assert client2.run(mtu).lines == ["1400"]
    assert client1.ping("client2") < 5


def test_campus_is_routed_and_has_its_files(campus: Layout) -> None:
    assert campus["pc1"].ping("pc2") < 5
    assert campus["r1"].read_text("/etc/motd") == "Router of the campus\n"
    assert campus["r1"].exists("/etc/passwd")
    assert campus["pc2"].read_text("/srv/names") == "a\nb\n"
    assert campus["pc2"].run("echo $COLOUR").lines == ["green"]


def served(web: MachineHandle) -> None:
    assert web.read_text("/srv/served") == "<h1>Shop</h1>\n"
    assert web.run("echo $SITE").lines == ["corner"]
    assert web.ping("db") < 5
    assert web.ping("database") < 5  # an alias of it


@pytest.mark.skipif(bool(PodmanProvider().check()), reason="no podman that works")
def test_services_of_compose_are_containers(shop: Layout) -> None:
    served(shop["web"])
    assert shop["db"].exists("/srv/ready")  # it was healthy before that


def test_services_of_compose_are_system_containers_where_wanted(inside: Layout) -> None:
    served(inside["web"])
    assert inside["db"].exists("/srv/ready")
