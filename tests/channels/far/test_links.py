"""Links that the agent in a machine configures, in a namespace that ends with the test."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pytest_carthage.channels.far.program import agent_program

pytestmark = pytest.mark.real

_SCRIPT = """
import json, subprocess, sys
ip = lambda words: subprocess.run(['ip', *words.split()], check=True, capture_output=True).stdout
ip('link set lo up')
ip('link add lan0 type veth peer name lan1')
ip('link set lan1 up')
failed = configure_link(json.load(sys.stdin))
addresses, v4, v6 = (
    json.loads(ip('-j ' + words)) for words in ('addr show lan0', 'route', '-6 route')
)
print(json.dumps([failed, addresses[0], v4, v6]))
"""


def configured(**link: Any) -> tuple[list[str], dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What failed, what the interface is then, and routes by where they lead."""
    program = f"{agent_program()}\n{_SCRIPT}"
    given = {"name": "lan0", "mtu": None, "settings": [], "addresses": [], "routes": [], **link}
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-I", "-S", "-c", f"__name__ = 'agent'\n{program}"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    failed, interface, v4, v6 = json.loads(done.stdout)
    return failed, interface, *({route["dst"]: route for route in routes} for routes in (v4, v6))


def route(destination: str | None, via: str | None, **more: Any) -> dict[str, Any]:
    return {"destination": destination, "via": via, "metric": None, "onlink": False, **more}


def test_card_has_its_addresses_routes_and_settings() -> None:
    failed, interface, v4, v6 = configured(
        mtu=1400,
        settings=[("net/ipv6/conf/lan0/accept_ra", "0")],
        addresses=["10.0.0.5/24", "10.9.0.1/31", "fd00::5/64"],
        routes=[
            route(None, "10.0.0.1"),
            route("10.7.0.0/16", "10.0.0.2", metric=7),
            route("10.8.0.1/32", "192.0.2.1", onlink=True),
            route("10.6.0.0/16", None),
            route("fd01::/48", "fd00::1"),
        ],
    )
    assert failed == []
    assert (interface["mtu"], "UP" in interface["flags"]) == (1400, True)
    there = {each["local"]: each for each in interface["addr_info"]}
    assert there["10.0.0.5"]["broadcast"] == "10.0.0.255"
    assert "broadcast" not in there["10.9.0.1"]
    assert there["fd00::5"]["prefixlen"] == 64
    assert v4["default"]["gateway"] == "10.0.0.1"
    assert (v4["10.7.0.0/16"]["gateway"], v4["10.7.0.0/16"]["metric"]) == ("10.0.0.2", 7)
    assert v4["10.8.0.1"]["flags"] == ["onlink"]
    assert v4["10.6.0.0/16"]["scope"] == "link"
    assert v6["fd01::/48"]["gateway"] == "fd00::1"


def test_what_the_kernel_refuses_is_told_and_the_rest_is_done() -> None:
    failed, interface, _, _ = configured(
        addresses=["10.0.0.5/24"], routes=[route("10.7.0.0/16", "192.0.2.1")]
    )
    assert failed == ["lan0: route to 10.7.0.0/16: Network is unreachable"]
    assert interface["addr_info"][0]["local"] == "10.0.0.5"
