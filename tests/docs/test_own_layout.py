"""The snippets of ``docs/how-to/own-layout.md`` that no example suite has."""

from __future__ import annotations

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.planning import make_plan


class Branch(Layout):
    office = Network("10.0.0.0/24")
    world = Network("198.51.100.0/24")
    router = Machine(links={"lan0": office.at(".1"), "wan0": world.at(".1")}, masquerade="wan0")
    desk = Machine(links={"eth0": office.at("auto", gateway=".1")})
    server = Machine(links={"eth0": world.at(".80")})


def test_subclass_has_one_thing_changed() -> None:
    # docs: subclass
    class BiggerBranch(Branch):
        server = Branch.server.replace(links={"eth0": Branch.world.at(".81")})
        second_desk = Machine(links={"eth0": Branch.office.at("auto", gateway=".1")})

    # docs: end
    plan = make_plan(BiggerBranch)
    assert list(plan.machines) == ["router", "desk", "server", "second_desk"]
    assert str(plan.machines["server"].links[0].address) == "198.51.100.81/24"


def test_machine_has_dots_in_its_name() -> None:
    # docs: dots
    class Production(Layout):
        lan = Network("10.0.0.0/24")
        locals()["web1.prod.example"] = Machine(links={"eth0": lan.at(".1")})
        locals()["db1.prod.example"] = Machine(
            links={"eth0": lan.at(".2")}, after="web1.prod.example"
        )

    # docs: end
    plan = make_plan(Production)
    assert list(plan.machines) == ["web1.prod.example", "db1.prod.example"]
    assert plan.machines["db1.prod.example"].after == ("web1.prod.example",)
    assert "10.0.0.1 web1.prod.example\n" in plan.hosts_file(["lan"])


def test_loop_makes_machines() -> None:
    # docs: loop
    class Farm(Layout):
        lan = Network("10.0.0.0/24")
        for number in range(1, 9):
            locals()[f"web{number}"] = Machine(links={"eth0": lan.at(f".{number}")})

    # docs: end
    assert list(make_plan(Farm).machines) == [f"web{number}" for number in range(1, 9)]
