"""What is said where a declaration cannot even be called, or an author's code fails in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pytest_carthage import LayoutError, Role

Refused = Callable[[str], str]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "web = Machine(link={})",
            "machine 'web' of layout 'Shop': it has no argument 'link'; declared at conftest.py:3;"
            " try: links=; there are image, links=, roles=, on=,",
        ),
        (
            'lan = Network("10.0.0.0/24", subnet="x")',
            "network 'lan' of layout 'Shop': it has no argument 'subnet'; declared at"
            " conftest.py:3; try: there are *subnets, v4=, v6=, kind=, vlan_id=, vni=, mtu=, ipv6=",
        ),
        (
            'web = Machine(links={"eth0": net.at(".1", gatewy=".2")})',
            "link of 'web' of layout 'Shop': it has no argument 'gatewy'; declared at"
            " conftest.py:3; try: gateway=; there are *addresses, gateway=,",
        ),
        (
            "web = Machine(limits=Limits(256))",
            "limits of 'web' of layout 'Shop': it takes its arguments by name, and got 1 without"
            " one; declared at conftest.py:3; try: there are memory_mib=, cpus=, pids=",
        ),
        (
            'web = Machine(wait_for=port("80", host="x"))',
            "condition port() of 'web' of layout 'Shop': it has no argument 'host'; declared at"
            " conftest.py:3; try: there are number",
        ),
        (
            "debian = Image.debian()",
            "image 'debian' of layout 'Shop': argument 'suite' is missing; declared at"
            " conftest.py:3; try: there are suite, variant=,",
        ),
        (
            'web = Machine(env={"A": "\\0"})',
            "machine 'web' of layout 'Shop': env=: '\\x00' has a null byte, which ends text;"
            " declared at conftest.py:3; try: text, numbers, and lists and mappings of them",
        ),
        (
            'web = Machine(variables={"a": [float("nan")]})',
            "machine 'web' of layout 'Shop': variables=: nan is no number that JSON could hold;",
        ),
        (
            "web = Machine(roles=[DhcpServer(lease_s=5)])",
            "role DhcpServer of 'web' of layout 'Shop': lease_s=5 is below 120, the shortest that"
            " dnsmasq lends; declared at conftest.py:3; try: lease_s=120",
        ),
    ],
)
def test_declaration_is_refused_with_what_there_is(
    refused: Refused, line: str, message: str
) -> None:
    text = refused(f'net = Network("10.0.0.0/24")\nclass Shop(Layout):\n    {line}')
    assert text.startswith(message)


@dataclass(frozen=True, kw_only=True)
class Theirs(Role):
    port: int = 80

    def __post_init__(self) -> None:
        {}[self.port]  # type: ignore[index]


def test_error_of_somebody_s_role_names_its_values_and_both_lines() -> None:
    with pytest.raises(LayoutError) as caught:
        Theirs(port=7)
    assert re.fullmatch(
        r"role Theirs: \(port=7\) cannot be read: KeyError: 7 \(at .*test_declaring.py:\d+\);"
        r" declared at .*test_declaring.py:\d+; try: what the role takes",
        str(caught.value),
    )
    assert isinstance(caught.value.__cause__, KeyError)


def test_role_with_an_init_of_its_own_is_mapped_too(refused: Refused) -> None:
    source = """
        class Theirs(Role):
            def __init__(self, port):
                self.port = int(port)
        {}
        """
    assert refused(source.format('Theirs("x")')).startswith(
        "role Theirs: ('x') cannot be read: ValueError: invalid literal for int() with base 10:"
        " 'x' (at conftest.py:3); declared at conftest.py:4; try: what the role takes"
    )
    assert refused(source.format("Theirs(ports=1)")) == (
        "role Theirs: it has no argument 'ports'; declared at conftest.py:4; try: port=; there are"
        " port"
    )


def test_property_of_a_role_that_raises_later_is_refused_by_the_layout(refused: Refused) -> None:
    text = refused(
        """
        class Theirs(Role):
            calls = 0
            @property
            def offers(self):
                Theirs.calls += 1
                if Theirs.calls > 5:
                    raise OSError("too often")
                return ()
        class Shop(Layout):
            web = Machine(roles=[Theirs()])
            db = Machine(roles=[Theirs()])
            gw = Machine(roles=[Theirs()])
        """
    )
    assert "too often" in text
    assert "conftest.py:" in text


def test_member_that_hides_its_own_class_is_no_reason_to_fail(refused: Refused) -> None:
    text = refused(
        """
        class Odd:
            @property
            def __class__(self):
                raise ValueError("no class")
        class Shop(Layout):
            odd = Odd()
        """
    )
    assert text == (
        "layout 'Shop': it cannot be read: ValueError: no class (at conftest.py:4); declared at"
        " conftest.py:5; try: properties and functions that give the same each time, and do not"
        " fail"
    )
