"""Two declarations, compared by their fingerprints."""

from __future__ import annotations

import json
from typing import Any

from pytest_carthage import Image, Layout, Machine, Network, Vm
from pytest_carthage.planning import make_plan
from pytest_carthage.planning.fingerprint import differences, fingerprint
from pytest_carthage.planning.traits import Traits
from pytest_carthage.roles import Nginx, Router

TARGETS = {"netns": Traits(root="host", init=True, outside=False, needs="folders", is_default=True)}


class Shop(Layout):
    """A machine and its network."""

    lan = Network("10.0.0.0/24")
    image = Image.debian("bookworm", packages=["nginx"])
    web = Machine(image, links={"eth0": lan.at(".2")}, env={"A": "1"}, roles=[Router()])


class Changed(Shop):
    """Another image, another role, another network; and one machine more."""

    lan = Network("10.0.1.0/24")
    image = Image.debian("bookworm", packages=["nginx", "curl"])
    web = Machine(image, links={"eth0": lan.at(".2")}, env={"A": "2"}, roles=[Nginx()])
    db = Machine()


def _differences(before: type[Layout], now: type[Layout]) -> list[str]:
    prints = [fingerprint(make_plan(each, targets=TARGETS)) for each in (before, now)]
    return differences(*json.loads(json.dumps(prints)))


def test_same_declaration_has_no_differences() -> None:
    assert _differences(Shop, Shop) == []


def test_what_differs_is_told_by_name_with_both_values() -> None:
    lines = _differences(Shop, Changed)
    assert "machine 'db' is new" in lines
    assert "machine 'web': image has changed" in lines
    assert "machine 'web': roles: Router then, Nginx now" in lines
    assert "machine 'web': links: eth0 10.0.0.2/24 then, eth0 10.0.1.2/24 now" in lines
    assert "machine 'web': env: {'A': '1'} then, {'A': '2'} now" in lines
    assert any(line.startswith("network 'lan': v4: ") for line in lines)


def test_what_is_gone_is_told() -> None:
    assert "machine 'db' is declared no more" in _differences(Changed, Shop)


def test_settings_of_a_target_are_part_of_it() -> None:
    vm = Traits(root="existing", init=True, outside=False, settings=Vm)

    def print_of(machine: Machine) -> dict[str, Any]:
        layout = Layout.of("Lab", {"db": machine})
        return fingerprint(make_plan(layout, targets={"libvirt": vm}))

    before, same = (print_of(Machine(on=Vm(cpus=2))) for _ in range(2))
    assert differences(before, same) == []
    assert differences(before, print_of(Machine(on=Vm(cpus=4)))) == [
        "machine 'db': on: Vm(cpus=2) then, Vm(cpus=4) now"
    ]
    assert differences(before, print_of(Machine(on="libvirt"))) == [
        "machine 'db': on: Vm(cpus=2) then, None now"
    ]
