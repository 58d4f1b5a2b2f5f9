"""What a plan's links need the kernel to be able to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_carthage.errors import Problem
    from pytest_carthage.planning.plan import Plan, PlannedLink

__all__ = ["kernel_needs", "missing_links"]

#: kind of link to the name of what it needs, for pytest_carthage.fabric.host.capability
_NEEDS = {
    "bond": "bond",
    "gre": "gre",
    "macvlan": "macvlan",
    "trunk": "vlan",
    "vlan": "vlan",
    "vxlan": "vxlan",
}


def kernel_needs(plan: Plan, target: str) -> Mapping[str, str]:
    """Tell what the machines of one target need: capability to who needs it first, in words."""
    needs: dict[str, str] = {}
    for machine in plan.machines.values():
        if machine.target != target:
            continue
        for link in machine.links:
            need = _need(link)
            if need is None or need in needs:
                continue
            network = plan.networks.get(link.network)
            if network is not None and network.kind == link.kind:
                needs[need] = f"network {network.name!r} of kind {network.kind}"
            else:
                needs[need] = f"link {link.interface!r} of machine {machine.name!r}, a {link.kind}"
    return needs


def missing_links(target: str, plan: Plan) -> list[Problem]:
    """List what the running kernel lacks for the links of a target's machines.

    A kernel that is asked for nothing special is not asked at all.
    """
    needs = kernel_needs(plan, target)
    if not needs:
        return []
    from pytest_carthage.fabric.host import capability

    return capability.problems(target, needs)


def _need(link: PlannedLink) -> str | None:
    need = _NEEDS.get(link.kind)
    if need == "gre" and link.underlay is not None and link.underlay.local.version == 6:
        return "gre6"
    return need
