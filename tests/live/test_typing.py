"""What a type checker knows about a layout."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

SNIPPET = """
    from typing import reveal_type

    from pytest_carthage import Image, Layout, Machine, Network, port, stage


    class Shop(Layout):
        lan = Network("10.0.0.0/24")
        debian = Image.debian("bookworm", packages=["git"])
        web = Machine(debian, links={"eth0": lan.at(".1")}, wait_for=port(80), after="db")
        db = Machine(links={"eth0": lan.at("auto")}, after=["web"], command=["sleep", "1"])


    class Small(Shop, without=["db"]):
        web = Shop.web.replace(hostname="www")


    shop_fixture = Shop.fixture()


    @stage
    async def imported(shop: Shop) -> int:
        reveal_type(await shop.aio.add(Machine(), name="x"))  # 1
        reveal_type(shop.aio.web)  # 2
        reveal_type(await shop.web.aio.run("true"))  # 3
        return 7


    @stage(timeout_s=60)
    def production(shop: Shop, imported: int) -> None:
        shop.ansible("site.yml", limit="web", extra_vars={"a": 1})


    def test(shop: Shop, small: Small) -> None:
        reveal_type(Shop.web)  # 4
        reveal_type(shop.web)  # 5
        reveal_type(Shop.lan)  # 6
        reveal_type(shop.lan)  # 7
        reveal_type(Shop.debian)  # 8
        reveal_type(shop.debian)  # 9
        reveal_type(small.web)  # 10
        reveal_type(shop["till-1"])  # 11
        reveal_type([m for m in shop])  # 12
        reveal_type(shop.web.run("true").stdout)  # 13
        reveal_type(Shop.of("Other", {"x": Machine(), "lan": None}))  # 14
        reveal_type(shop.add(Machine(), name="x"))  # 15
        reveal_type(shop.partition(shop.web, "db"))  # 16
        reveal_type(shop.assert_sealed)  # 17
        reveal_type(shop.aio.assert_sealed)  # 18
        reveal_type(Shop.offering("water"))  # 19
        reveal_type(shop.offering("water"))  # 20
        with shop.web.forward(80) as number:
            reveal_type(number)  # 21
        shop.wbe  # misspelt
"""

EXPECTED = {
    1: "pytest_carthage.live.machines.machine.AsyncMachine",
    2: "pytest_carthage.live.machines.machine.AsyncMachine",
    3: "pytest_carthage.handles.result.Result",
    4: "pytest_carthage.model.machine.Machine",
    5: "pytest_carthage.live.machines.machine.MachineHandle",
    6: "pytest_carthage.model.network.Network",
    7: "pytest_carthage.model.network.Network",
    8: "pytest_carthage.model.image.Image",
    9: "pytest_carthage.model.image.Image",
    10: "pytest_carthage.live.machines.machine.MachineHandle",
    11: "pytest_carthage.live.machines.machine.MachineHandle",
    12: "list[pytest_carthage.live.machines.machine.MachineHandle]",
    13: "str",
    14: "type[snippet.Shop]",
    15: "pytest_carthage.live.machines.machine.MachineHandle",
    16: "pytest_carthage.live.faults.disturbance.Disturbance",
    17: "def (*, timeout_s: float =) -> pytest_carthage.live.packets.sealing.report.SealReport",
    18: (
        "def (*, timeout_s: float =) -> "
        "typing.Coroutine[Any, Any, pytest_carthage.live.packets.sealing.report.SealReport]"
    ),
    19: "typing.Mapping[str, pytest_carthage.model.machine.Machine]",
    20: "typing.Mapping[str, pytest_carthage.live.machines.machine.MachineHandle]",
    21: "int",
}


@pytest.mark.timeout(300)
def test_members_have_the_type_of_declaration_on_the_class_and_of_handle_on_the_instance(
    tmp_path: Path,
) -> None:
    api = pytest.importorskip("mypy.api")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(textwrap.dedent(SNIPPET))
    out, err, _ = api.run(
        [
            "--strict",
            "--config-file=",
            "--no-error-summary",
            "--no-pretty",
            "--follow-imports=silent",
            f"--cache-dir={tmp_path / 'cache'}",
            str(snippet),
        ]
    )
    assert not err
    numbers = {
        number: int(line.rpartition("# ")[2])
        for number, line in enumerate(snippet.read_text().splitlines(), 1)
        if "reveal_type(" in line
    }
    revealed: dict[int, str] = {}
    errors: list[str] = []
    for line in out.splitlines():
        _, number, kind, message = line.split(":", 3)
        if "Revealed type is" in message:
            revealed[numbers[int(number)]] = message.split('"')[1].replace("builtins.", "")
        elif kind.strip() == "error":
            errors.append(message.strip())
    assert revealed == EXPECTED
    assert errors == ['"Shop" has no attribute "wbe"  [attr-defined]']
