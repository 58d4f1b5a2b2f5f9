"""The same seed for a machine with cloud-init: its data source NoCloud.

See the reference of cloud-init: "NoCloud", "Network configuration version 2", "Module reference".
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_carthage.images.seeds.commands import network_script, settings
from pytest_carthage.images.seeds.iso import make_iso
from pytest_carthage.images.seeds.seed import seed_files
from pytest_carthage.images.seeds.units import HOME, NETWORK_UNIT, script_unit
from pytest_carthage.images.seeds.values import text
from pytest_carthage.images.seeds.wiring import wiring_of

if TYPE_CHECKING:
    from pytest_carthage.images.seeds.values import FileInSeed
    from pytest_carthage.images.seeds.wiring import Wire, Wiring
    from pytest_carthage.planning.plan import Plan, PlannedMachine
    from pytest_carthage.store.built import Built

__all__ = ["make_cloud_seed", "network_config"]

_LABEL = "cidata"
_HOST_KEYS = "etc/ssh/ssh_host_"
#: what cloud-init itself writes, from what else it is told
_OTHERWISE = ("etc/hostname", "etc/machine-id")
_RESOLVER = "etc/resolv.conf"
#: a link leads to what some service writes, which is told of the network's servers by cloud-init
_COPY_RESOLVER = f"[ -L /{_RESOLVER} ] || cp /{HOME}/resolv.conf /{_RESOLVER}"
#: what cloud-init knows of links
_ITS_KINDS = ("bridged", "trunk", "vlan", "bond")


def make_cloud_seed(
    planned: PlannedMachine,
    plan: Plan,
    built: Built | None = None,
    *,
    agent: str | None,
    files: Mapping[str, FileInSeed] | None = None,
    authorized_keys: tuple[str, ...] = (),
    host_keys: Mapping[str, FileInSeed] | None = None,
) -> bytes:
    """The bytes of a disk that cloud-init finds by its label; arguments as of :func:`make_seed`.

    :param authorized_keys: who may log in by ssh, as root and as the image's own user.
    """
    groups = seed_files(planned, plan, built, agent=agent, host_keys=host_keys)
    wiring = wiring_of(planned)
    del groups["root"][f"{HOME}/network"]  # which is all of it
    own = {**groups["root"], **groups["units"], **_more_network(wiring)}
    own[f"{HOME}/resolv.conf"] = own.pop(_RESOLVER)
    written = {**own, **(files or {})}
    keys = {
        f"{path.removeprefix(_HOST_KEYS).partition('_')[0]}_{kind}": file.data.decode()
        for path, file in groups["ssh"].items()
        for kind in ["public" if path.endswith(".pub") else "private"]
    }
    units = sorted(
        path.rpartition("/")[2]
        for path in written
        if path.endswith(".service") and ".wants/" not in path
    )
    user: dict[str, Any] = {
        "hostname": planned.hostname,
        "preserve_hostname": False,
        "manage_etc_hosts": False,
        "ssh_deletekeys": True,
        "ssh_keys": keys,
        "disable_root": False,
        "ssh_authorized_keys": list(authorized_keys),
        "users": [
            "default",
            {"name": "root", "ssh_authorized_keys": list(authorized_keys), "lock_passwd": True},
        ],
        "package_update": False,
        "write_files": [
            {
                "path": f"/{path}",
                "encoding": "b64",
                "content": base64.b64encode(file.data).decode(),
                "permissions": f"{file.mode:04o}",
            }
            for path, file in written.items()
            if not file.target and path not in _OTHERWISE
        ],
        "runcmd": [["sh", "-c", _COPY_RESOLVER], *_links(written), *_started(units)],
    }
    meta = {"instance-id": uuid.uuid4().hex, "local-hostname": planned.hostname}
    iso = make_iso(
        _LABEL,
        {
            "user-data": b"#cloud-config\n" + json.dumps(user, indent=1).encode(),
            "meta-data": json.dumps(meta).encode(),
            "network-config": json.dumps(network_config(wiring), indent=1).encode(),
        },
    )
    return iso + bytes(-len(iso) % (1 << 20))


def _more_network(wiring: Wiring) -> dict[str, FileInSeed]:
    """The script for what cloud-init is told nothing of, and its unit; nothing: there is none."""
    rest = replace(
        wiring, wires=[wire for wire in wiring.wires if wire.spec["kind"] not in _ITS_KINDS]
    )
    if not (rest.wires or rest.loopback or any(settings(rest))):
        return {}
    return {f"{HOME}/network": text(network_script(rest), 0o755), **script_unit(is_all=False)}


def _links(files: Mapping[str, FileInSeed]) -> list[list[str]]:
    """Commands that make the symbolic links of these, which cloud-init does not."""
    links = {f"/{path}": file.target for path, file in files.items() if file.target}
    folders = sorted({path.rpartition("/")[0] for path in links})
    made = [["ln", "-sfn", target, path] for path, target in links.items()]
    return [["mkdir", "-p", *folders], *made] if links else []


def _started(units: Sequence[str]) -> list[list[str]]:
    if not units:
        return []
    # who finds the agent finds the network as it is to be
    first = [["systemctl", "start", unit] for unit in units if unit == NETWORK_UNIT]
    rest = [unit for unit in units if unit != NETWORK_UNIT]
    last = [["systemctl", "start", "--no-block", *rest]] if rest else []
    return [["systemctl", "daemon-reload"], *first, *last]


def network_config(wiring: Wiring) -> dict[str, Any]:
    """The network, as cloud-init is told; JSON is YAML."""
    macs = {card.interface: card.mac for card in wiring.cards}
    members = {member["interface"] for wire in wiring.wires for member in wire.spec["members"]}
    config: dict[str, Any] = {"version": 2}
    for name in members:
        config.setdefault("ethernets", {})[name] = _card(name, macs[name])
    for wire in wiring.wires:
        link = wire.spec
        own = _addresses(wire)
        if link["kind"] in ("bridged", "trunk"):
            config.setdefault("ethernets", {})[wire.name] = _card(wire.name, macs[wire.name]) | own
        elif link["kind"] == "vlan":
            place = {"id": link["vlan"], "link": link["over"][0], "macaddress": link["mac"]}
            config.setdefault("vlans", {})[wire.name] = place | own
        elif link["kind"] == "bond":
            interfaces = [member["interface"] for member in link["members"]]
            parameters = {"mode": "active-backup", "mii-monitor-interval": 100}
            config.setdefault("bonds", {})[wire.name] = {
                "interfaces": interfaces,
                "macaddress": link["mac"],
                "parameters": parameters,
            } | own
    return config


def _card(name: str, mac: str) -> dict[str, Any]:
    return {"match": {"macaddress": mac}, "set-name": name}


def _addresses(wire: Wire) -> dict[str, Any]:
    link = wire.spec
    config: dict[str, Any] = {
        "dhcp4": 4 in wire.dhcp,
        "dhcp6": 6 in wire.dhcp,
        "accept-ra": link["accept_ra"],
    }
    if link["mtu"] is not None:
        config["mtu"] = link["mtu"]
    if not wire.planned.required or not wire.up:
        config["optional"] = True  # nobody waits for it
    if link["addresses"]:
        config["addresses"] = list(link["addresses"])
    servers = [str(address) for own in wire.planned.addressings for address in own.dns_servers]
    domains = [name for own in wire.planned.addressings for name in own.domains]
    if servers or domains:
        told = {"addresses": servers, "search": domains}
        config["nameservers"] = {name: each for name, each in told.items() if each}
    routes = []
    for route in wire.routes:
        default = "::/0" if ":" in str(route["via"]) else "0.0.0.0/0"
        entry: dict[str, Any] = {"to": route["destination"] or default, "via": route["via"]}
        if route["metric"] is not None:
            entry["metric"] = route["metric"]
        if route["onlink"]:
            entry["on-link"] = True
        routes.append(entry)
    if routes:
        config["routes"] = routes
    return config
