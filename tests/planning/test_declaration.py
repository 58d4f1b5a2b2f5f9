from __future__ import annotations

from ipaddress import ip_address
from typing import Any, ClassVar

import pytest

from pytest_carthage import Image, Layout, LayoutError, Machine, Network
from pytest_carthage.planning import make_plan


class Pair(Layout):
    """Two machines."""

    lan = Network("10.0.0.0/24")
    debian = Image.debian("bookworm")
    gw = Machine(links={"eth0": lan.at(".1")})
    web = Machine(debian, links={"eth0": lan.at(".2", gateway=".1")}, after=[gw])


def test_class_lists_what_it_declares_in_order() -> None:
    assert list(Pair.machines()) == ["gw", "web"]
    assert Pair.machines()["web"] is Pair.web
    assert Pair.networks() == {"lan": Pair.lan}
    assert Pair.images() == {"debian": Pair.debian}


def test_subclass_that_replaces_a_machine_keeps_the_rest() -> None:
    class Other(Pair):
        gw = Machine(links={"eth0": Pair.lan.at(".1")}, forward=True)
        db = Machine(links={"eth0": Pair.lan.at()})

    assert list(Other.machines()) == ["gw", "web", "db"]
    assert Other.gw is not Pair.gw
    assert Other.web is Pair.web
    assert make_plan(Other).machines["gw"].forward
    assert make_plan(Other).machines["web"].after == ("gw",)
    assert not make_plan(Pair).machines["gw"].forward


def test_subclass_that_replaces_a_network_moves_its_machines() -> None:
    class Moved(Pair):
        lan = Network("172.16.0.0/16")

    web = make_plan(Moved).machines["web"]
    assert str(web.links[0].address) == "172.16.0.2/16"
    assert web.links[0].gateway == ip_address("172.16.0.1")
    assert str(make_plan(Pair).machines["web"].links[0].address) == "10.0.0.2/24"


def test_subclass_of_a_subclass_that_replaces_a_network_again_moves_all_machines() -> None:
    class Moved(Pair):
        lan = Network("172.16.0.0/16")
        db = Machine(links={"eth0": lan.at(".3")})

    class Again(Moved):
        lan = Network("192.168.1.0/24")

    addresses = [str(m.links[0].address) for m in make_plan(Again).machines.values()]
    assert addresses == ["192.168.1.1/24", "192.168.1.2/24", "192.168.1.3/24"]


def test_subclass_removes_a_member_with_none() -> None:
    class Alone(Pair):
        web = None  # type: ignore[assignment]

    assert list(Alone.machines()) == ["gw"]
    assert list(make_plan(Alone).machines) == ["gw"]


def test_subclass_removes_members_with_without() -> None:
    class Alone(Pair, without=["web", "debian"]):
        pass

    assert list(Alone.machines()) == ["gw"]
    assert not Alone.images()
    assert list(Pair.machines()) == ["gw", "web"]


def test_layouts_are_joined_by_inheritance() -> None:
    class Store(Layout):
        vault = Network("10.9.0.0/24")
        disk = Machine(links={"eth0": vault.at()})

    class Both(Pair, Store):
        pass

    assert set(Both.machines()) == {"gw", "web", "disk"}


def test_layout_is_built_in_a_loop() -> None:
    class Farm(Layout):
        lan = Network("10.0.0.0/24")
        for i in range(3):
            locals()[f"w{i}"] = Machine(links={"eth0": lan.at()})

    assert list(Farm.machines()) == ["w0", "w1", "w2"]


def test_layout_is_made_from_a_mapping() -> None:
    lan = Network("10.0.0.0/24")
    farm = Layout.of("Farm", {"lan": lan, "w-1": Machine(links={"eth0": lan.at()})})
    assert farm.__name__ == "Farm"
    assert farm.__module__ == __name__
    assert list(make_plan(farm).machines) == ["w-1"]
    more = Pair.of("More", {"db": Machine(links={"eth0": Pair.lan.at()})})
    assert issubclass(more, Pair)
    assert list(more.machines()) == ["gw", "web", "db"]


def test_one_machine_object_under_two_names_is_two_machines() -> None:
    class Twins(Layout):
        lan = Network("10.0.0.0/24")
        one = Machine(links={"eth0": lan.at()})
        two = one

    assert Twins.one is not Twins.two
    addresses = [str(m.links[0].address) for m in make_plan(Twins).machines.values()]
    assert addresses == ["10.0.0.1/24", "10.0.0.2/24"]


def test_method_and_constant_of_a_layout_are_no_members() -> None:
    class Helpful(Pair):
        SITE = "berlin"
        ports: ClassVar[list[int]] = [80]

        def addresses(self) -> list[str]:
            return [self.SITE]

    assert list(Helpful.machines()) == ["gw", "web"]


def test_networks_that_overlap_are_fine_as_long_as_no_machine_joins_both() -> None:
    class Branches(Layout):
        berlin = Network("10.0.0.0/24")
        paris = Network("10.0.0.0/24")
        a = Machine(links={"eth0": berlin.at(".1")})
        b = Machine(links={"eth0": paris.at(".1")})

    links = [machine.links[0] for machine in make_plan(Branches).machines.values()]
    assert [link.network for link in links] == ["berlin", "paris"]


def test_two_links_to_one_network_are_fine() -> None:
    class Doubled(Layout):
        lan = Network("10.0.0.0/24")
        a = Machine(links={"eth0": lan.at(".1"), "eth1": lan.at(".2")})

    assert len(make_plan(Doubled).machines["a"].links) == 2


def test_auto_address_leaves_out_the_fixed_ones_of_later_members() -> None:
    class Mixed(Layout):
        lan = Network("10.0.0.0/24")
        a = Machine(links={"eth0": lan.at("auto")})
        b = Machine(links={"eth0": lan.at(".1")})
        c = Machine(links={"eth0": lan.at(None)})
        d = Machine(links={"eth0": lan.at()})

    addresses = [m.links[0].address for m in make_plan(Mixed).machines.values()]
    assert [str(a) for a in addresses] == ["10.0.0.2/24", "10.0.0.1/24", "None", "10.0.0.3/24"]


def test_many_machines_are_declared_quickly() -> None:
    """Finding names is linear: 500 machines in well under the test's time limit."""
    lan = Network("10.0.0.0/16")
    machines = {f"m{i}": Machine(links={"eth0": lan.at()}) for i in range(500)}
    farm = Layout.of("Farm", {"lan": lan, **machines})
    assert len(make_plan(farm).machines) == 500


@pytest.mark.parametrize("version", ["4", "6"])
def test_addresses_of_both_kinds_work(version: str) -> None:
    subnet = {"4": "10.0.0.0/24", "6": "fd00::/64"}[version]

    lan = Network(subnet)
    gateway = {"4": ".1", "6": "::1"}[version]
    both = Layout.of(
        "Both",
        {
            "lan": lan,
            "gw": Machine(links={"eth0": lan.at(gateway)}),
            "web": Machine(links={"eth0": lan.at(gateway=gateway)}),
        },
    )
    link = make_plan(both).machines["web"].links[0]
    assert link.address is not None
    assert link.gateway is not None
    assert link.address.ip == link.gateway + 1


@pytest.mark.parametrize("subscribers", [print, [7], {print}, "print", [None]])
def test_subscribers_that_are_no_list_of_functions_are_refused(subscribers: Any) -> None:
    with pytest.raises(LayoutError) as caught:
        Layout.of("Shop", {"subscribers": subscribers})
    message = str(caught.value)
    assert message.startswith(
        f"layout 'Shop': subscribers {subscribers!r} is no list of functions; declared at"
        f" {__file__}:"
    )
    assert message.endswith("; try: subscribers = [function]")


def test_subscribers_and_target_are_an_authors_to_choose_and_are_inherited() -> None:
    class Base(Layout):
        target = "netns"
        subscribers = (print,)

    class Shop(Base):
        pass

    assert (Shop.target, Shop.subscribers) == ("netns", (print,))


@pytest.mark.parametrize("without", ["db", ["db"], ("web", "db"), {"db": 1}])
def test_without_takes_one_name_or_several(without: Any) -> None:
    class Base(Layout):
        web = Machine()
        db = Machine()

    class Shop(Base, without=without):
        pass

    assert "db" not in Shop.machines()
    assert list(Base.machines()) == ["web", "db"]


def test_layout_that_a_program_makes_is_of_the_module_that_makes_it() -> None:
    made = Layout.of("Shop", {"web": Machine()})
    assert (made.__module__, made.__name__) == (__name__, "Shop")
    assert list(made.machines()) == ["web"]


def test_what_a_layout_lists_cannot_be_changed() -> None:
    class Shop(Layout):
        web = Machine()

    listed: Any = Shop.machines()
    with pytest.raises(TypeError):
        listed["db"] = Machine()
