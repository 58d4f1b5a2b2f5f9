"""Machines that are cut off from each other: rules on the way between the fabric's ports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_carthage.fabric import netlink, nft
from pytest_carthage.fabric.cable import Fields, splice_names
from pytest_carthage.fabric.neighbours import meet_again, there
from pytest_carthage.fabric.wire.steps import Steps

if TYPE_CHECKING:
    from pytest_carthage.fabric.fault import Fault
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.population import Population


def _listed(values: Iterable[str], *, quoted: bool = False) -> str:
    return ", ".join(f'"{value}"' if quoted else value for value in values)


def cut_rules(name: str, groups: Sequence[Mapping[str, Any]]) -> str:
    """The ruleset that cuts machines off from each other.

    Each group has ``ports`` (of the fabric), ``v4`` and ``v6`` (addresses of its machines) and
    ``shared``: ports by address, of other machines which have the same one elsewhere.

    Frames are dropped where they leave a machine and where they reach one: in between, on the
    networks of routers, an address may be somebody else's.
    """
    rules = []
    for group in groups:
        others = [other for other in groups if other is not group]
        ours = _listed(group["ports"], quoted=True)
        theirs = _listed((port for other in others for port in other["ports"]), quoted=True)
        if not ours:
            continue
        if theirs:
            rules.append(f"iifname {{ {ours} }} oifname {{ {theirs} }} drop")
        for family, key in (("ip", "v4"), ("ip6", "v6")):
            addresses = list(dict.fromkeys(a for other in others for a in other[key]))
            for address in addresses:
                shared = [p for other in others for p in other["shared"].get(address, ())]
                if shared:  # its own neighbour of this address is not who is meant
                    near = _listed(shared, quoted=True)
                    for out, back, end in (("iif", "oif", "daddr"), ("oif", "iif", "saddr")):
                        rules.append(
                            f"{out}name {{ {ours} }} {back}name {{ {near} }} "
                            f"{family} {end} {address} return"
                        )
            if addresses:
                listed = _listed(addresses)
                rules += [
                    f"iifname {{ {ours} }} {family} daddr {{ {listed} }} drop",
                    f"oifname {{ {ours} }} {family} saddr {{ {listed} }} drop",
                ]
    lines = "\n".join(rules)
    return (
        f"table bridge {name} {{\nchain forward {{ type filter hook forward priority 0; "
        f"policy accept;\n{lines}\n}}\n}}\n"
    )


class Cuts:
    """Machines that are cut off from each other."""

    def __init__(self, population: Population, home: Home) -> None:
        self._population = population
        self._home = home

    def partition(self, fault: Fault, message: Mapping[str, Any]) -> Steps[Fields]:
        """Cut the machines of each group off from those of the others."""
        table = f"cgcut{fault.number}"
        groups = [{**group, "members": list(group["members"])} for group in message["groups"]]
        lent = {
            member["machine"]: self._addresses(member["machine"])
            for group in groups
            for member in group["members"]
        }
        rules = cut_rules(table, [_whole(group, lent) for group in groups])
        yield from nft.load(rules)

        def leave(name: str) -> Steps[None]:
            for group in groups:
                group["members"] = [m for m in group["members"] if m["machine"] != name]
            rules = cut_rules(table, [_whole(group, lent) for group in groups])
            yield from nft.load(f"delete table bridge {table}\n{rules}")

        def heal() -> Steps[None]:
            yield from nft.load(f"delete table bridge {table}\n")
            meet_again(self._population, self._home, message["neighbours"])

        fault.machines.update(lent)
        fault.leave = leave
        fault.heal = heal
        return {}

    def _addresses(self, name: str) -> list[str]:
        """Addresses that a machine has now, but those that are its own or one link's."""
        try:
            with self._home.visit(self._population.find(name).place.namespace):
                rows = netlink.addresses()
        except (LookupError, OSError):
            return []
        found = [row["address"] for row in rows if row["interface"] != "lo"]
        plain = [address.partition("/")[0] for address in found if address]
        return [address for address in plain if not address.startswith("fe80:")]


def _whole(group: Mapping[str, Any], lent: Mapping[str, list[str]]) -> dict[str, Any]:
    """A group as :func:`cut_rules` takes it.

    :param lent: machine to addresses that it has beside those that were planned.
    """
    ports: list[str] = []
    addresses: dict[str, None] = {}
    for member in group["members"]:
        for port in there(member["ports"]):
            ports += (port, splice_names(port)[1])
        addresses |= dict.fromkeys([*member["addresses"], *lent[member["machine"]]])
    return {
        "ports": ports,
        "v4": [address for address in addresses if ":" not in address],
        "v6": [address for address in addresses if ":" in address],
        "shared": group["shared"],
    }
