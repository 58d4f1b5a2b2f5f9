"""What pytest says of an assertion on values of ours that fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_carthage.handles.result import Result
from pytest_carthage.plugin.assertions import explained
from tests.handles.test_network import ROUTE
from tests.plugin.conftest import Suite

RESULT = Result(
    machine="web",
    command="hostname",
    status=0,
    stdout="web\n",
    stderr="",
    started_at=1_700_000_000.0,
    duration_s=0.25,
)


@pytest.mark.parametrize(
    ("other", "attribute"),
    [
        ("web\n", "stdout"),
        (b"web\n", "stdout_bytes"),
        (0, "status"),
        (True, "ok"),
        (["web"], "lines"),
    ],
)
def test_result_that_is_compared_with_what_it_has_names_the_attribute(
    other: object, attribute: str
) -> None:
    remark = f"a Result is only ever equal to a Result; try: .{attribute}"
    assert explained("==", RESULT, other) == [f"{RESULT!r} == {other!r}", remark]
    assert explained("==", other, RESULT) == [f"{other!r} == {RESULT!r}", remark]


def test_values_that_only_one_side_has_are_listed() -> None:
    routes = [replace(ROUTE, metric=number) for number in range(1, 15)]
    lines = explained("==", routes, [])
    assert lines is not None
    assert lines[:3] == ["list of 14 == []", "on the left alone, 14 of 14:", f"  {routes[0]!r}"]
    assert lines[-1] == "  and 4 more"
    assert len(lines) == 13
    assert explained("==", routes[:2], routes[1:2]) == [
        "list of 2 == list of 1",
        "on the left alone, 1 of 2:",
        f"  {routes[0]!r}",
    ]
    assert explained("==", routes[:2], routes[1::-1]) == [
        "list of 2 == list of 2",
        "the same values in another order",
    ]


@pytest.mark.parametrize(
    ("operator", "left", "right"),
    [
        ("==", [1], []),
        ("==", "a", "b"),
        ("==", RESULT, RESULT),
        ("in", RESULT, []),
        ("!=", [ROUTE], []),
    ],
)
def test_other_comparisons_are_left_to_pytest(operator: str, left: object, right: object) -> None:
    assert explained(operator, left, right) is None


def test_failed_assertions_explain_themselves(suite: Suite) -> None:
    suite.write(
        test_it=r"""
        def test_ok(pair):
            assert pair.one.run("echo no such site >&2; exit 3", check=False).ok

        def test_result(pair):
            assert pair.one.run("exit 3", check=False)

        def test_stdout(pair):
            assert pair.one.run("hostname").stdout == "two\n"

        def test_comparison(pair):
            assert pair.one.run("hostname") == "one\n"

        def test_routes(pair):
            assert pair.one.network.routes()[:1] == []

        def test_packets(pair):
            with pair.capture("lan", "icmp") as packets:
                pair.one.ping("two")
                packets.wait_for(2)
            assert packets == []

        def test_no_packets(pair):
            with pair.capture("lan", "icmp") as packets:
                pair.one.ping("two")
                packets.wait_for(2)
            assert not packets

        def test_seal(pair):
            assert pair.assert_sealed().frames < 0
        """,
    )
    result = suite.run("--tb=short")
    result.assert_outcomes(failed=8)
    shown = "??:??:??.?????? lan"
    result.stdout.fnmatch_lines(
        [
            "E    +  where False = <Result of 'echo no such site >&2; exit 3' on one: status 3 in "
            "* s, stderr 'no such site'>.ok",
            "E   *assert <Result of 'exit 3' on one: status 3 in * s>",
            "E     - two",
            "E     + one",
            "E   *assert <Result of 'hostname' on one: status 0 in * s, stdout 'one'> == 'one\\n'",
            "E     a Result is only ever equal to a Result; try: .stdout",
            "E   *assert tuple of 1 == []",
            "E     on the left alone, 1 of 1:",
            "E       <Route 10.0.0.0/24 dev eth0 proto kernel src 10.0.0.1>",
            "E     a tuple is never equal to a list, whatever they hold",
            "E     a capture grows, and is never equal to a list; try: not packets",
            f"E       <{shown}: one 10.0.0.1 > two 10.0.0.2 icmp type 8, * bytes>",
            "E   *assert not <capture on network 'lan' of layout 'Pair': 2 packets, the last: "
            f"{shown}: two 10.0.0.2 > one 10.0.0.1 icmp type 0, * bytes>",
            "E    +  where * = <SealReport of Pair: * probes to * addresses, * frames in * s*>"
            ".frames",
        ]
    )
    assert "<Result of 'hostname' on one: status 0" in result.stdout.str()
