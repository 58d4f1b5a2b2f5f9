"""Ports that lead to other machines: what is wrong with them, whatever the layout is."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from pytest_carthage import Forward, Machine

WEB = Machine()


@pytest.mark.parametrize(
    ("arguments", "what", "remedy"),
    [
        *(
            ({"port": port}, f"forward: port {port!r} is not from 1 to 65535", "port=80")
            for port in (0, 65536, -1, "80", 80.0, True, None)
        ),
        *(
            ({"to_port": port}, f"forward: to_port {port!r} is not from 1 to 65535", "to_port=80")
            for port in (0, 65536, "80", False)
        ),
        ({"protocol": "TCP"}, "forward: protocol 'TCP' is unknown", 'protocol="tcp"'),
        ({"protocol": None}, "forward: protocol None is unknown", 'protocol="tcp"'),
        ({"to": None}, "forward: to=None is of a wrong type", 'to="web"'),
        ({"to": 7}, "forward: to=7 is of a wrong type", 'to="web"'),
    ],
)
def test_forward_that_is_wrong_is_a_mistake(
    arguments: dict[str, Any], what: str, remedy: str
) -> None:
    given: dict[str, Any] = {"interface": "wan0", "port": 80, "to": "web", **arguments}
    forward = Forward(given.pop("interface"), given.pop("port"), **given)
    assert [(one.what, one.remedy) for one in forward.mistakes] == [(what, remedy)]
    assert forward.mistakes[0].place.file == __file__


def test_forward_with_several_mistakes_has_them_all() -> None:
    forward: Any = Forward("wan0", 0, to=7, to_port=0, protocol="x")  # type: ignore[arg-type]
    assert [one.remedy for one in forward.mistakes] == [
        "port=80",
        "to_port=80",
        'protocol="tcp"',
        'to="web"',
    ]


@pytest.mark.parametrize("to", ["web", "10.0.0.1", ip_address("fd00::1"), WEB])
@pytest.mark.parametrize("port", [1, 65535])
def test_forward_to_a_machine_or_an_address_is_right(to: Any, port: int) -> None:
    protocols: tuple[Any, ...] = ("tcp", "udp")
    for protocol in protocols:
        forward = Forward("wan0", port, to=to, to_port=port, protocol=protocol)
        assert forward.mistakes == ()


def test_forward_is_the_same_wherever_it_is_written() -> None:
    first = Forward("wan0", 80, to="web")
    second = Forward("wan0", 80, to="web")
    assert first == second
    assert first.place != second.place
    assert first != Forward("wan0", 80, to="web", protocol="udp")
