"""Specifications made by hand: what a test does not say is plain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pytest_carthage.fabric.spec import LinkSpec, MachineSpec


def link_spec(machine: str = "m", **given: Any) -> LinkSpec:
    """A link of a machine; ``network`` stands for the bridge of a network of this name."""
    network = given.pop("network", None)
    given.pop("gateway", None)
    plain: dict[str, Any] = {
        "interface": "eth0",
        "kind": "bridged",
        "bridge": f"br-{network}",
        "port": f"{machine}-{given.get('interface', 'eth0')}",
        "mac": None,
        "mtu": None,
        "up": True,
        "addresses": [],
        "ipv6": True,
        "accept_ra": False,
        "masquerade": [],
        "over": [],
        "vlan": None,
        "vlans": [],
        "vni": None,
        "local": None,
        "remotes": [],
        "members": [],
    }
    return cast("LinkSpec", {**plain, **given})


def route_spec(**given: Any) -> dict[str, Any]:
    """A route."""
    plain = {"destination": None, "via": None, "interface": None, "metric": None, "onlink": False}
    return {**plain, **given}


def machine_spec(name: str = "m", **given: Any) -> MachineSpec:
    """A machine of kind *process* whose log is thrown away.

    A link's ``gateway`` stands for a default route by it.
    """
    links: list[Mapping[str, Any]] = given.pop("links", [])
    routes = [
        {"via": link["gateway"], "interface": link.get("interface", "eth0")}
        for link in links
        if "gateway" in link
    ]
    routes += given.pop("routes", [])
    plain = {
        "name": name,
        "kind": "process",
        "hostname": name,
        "links": [link_spec(name, **link) for link in links],
        "loopback": [],
        "routes": [route_spec(**route) for route in routes],
        "forwards": [],
        "forward": False,
        "resolv": "",
        "env": {},
        "command": None,
        "restart": "no",
        "log": "/dev/null",
        "limits": None,
        "control_group": "",
    }
    return cast("MachineSpec", {**plain, **given})
