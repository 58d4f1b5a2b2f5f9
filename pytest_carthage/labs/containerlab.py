"""Topologies of containerlab, whose nodes are of a Linux kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_carthage.labs.documents import Block, Lined, read
from pytest_carthage.labs.dotenv import beside, variables
from pytest_carthage.labs.expressions import Call
from pytest_carthage.labs.lab import Here, Lab
from pytest_carthage.labs.memory import mebibytes
from pytest_carthage.labs.processes import command_of
from pytest_carthage.labs.volumes import files_of
from pytest_carthage.labs.wiring import Node, Wire, join
from pytest_carthage.model.machine import Limits

__all__ = ["read_containerlab"]

#: kinds whose nodes are containers of any Linux image
_LINUX = ("linux", "")
_BRIDGES = ("bridge", "ovs-bridge")
#: what of a node another one's own does not replace, but adds to
_JOINED = ("env", "labels", "sysctls")
_ADDED = ("binds", "exec", "env-files")
#: where a link ends that no node has
_OUTSIDE = ("host", "mgmt-net", "macvlan", "dummy", "vxlan", "vxlan-stitch")


def read_containerlab(file: Path, here: Here) -> Lab:
    """Read ``NAME.clab.yml``.

    :raises LayoutError: something in it is wrong, with its line.
    """
    file = file.absolute()
    lab = Lab(
        kind="containerlab",
        file=file,
        title=file.name.partition(".")[0],
        here=here,
    )
    document = read(file, lab.remarks, variables=beside(file))
    lab.title = document.text("name") or lab.title
    document.take("prefix")
    if document.take("mgmt") is not None:
        document.remark("mgmt", "mgmt is not taken: tests reach machines without a network for it")
    topology = document.block("topology", "topology")
    if "topology" not in document.values:
        raise document.mistake("", "there is no topology", "topology: {nodes: {...}, links: [...]}")
    inherited = _Inherited(topology)
    machines = topology.blocks("nodes", "node")
    lab.claim(name for name, block in machines if inherited.kind(block) in _LINUX)
    nodes: dict[str, Node] = {}
    bridges: dict[str, Wire] = {}
    for name, block in topology.blocks("nodes", "node"):
        kind = inherited.kind(block)
        if kind in _BRIDGES:
            block.leave()
            bridges[name] = Wire(wanted=name, place=topology.block("nodes").place(name))
        elif kind not in _LINUX:
            block.remark("kind", f"its kind {kind!r} is none of Linux: the node is left out")
        else:
            nodes[name] = _node(lab, name, topology.block("nodes"), inherited.node(block))
    wires = [*bridges.values(), *_wires(topology, nodes, bridges)]
    topology.leave()
    document.leave()
    join(lab, nodes, wires)
    return lab


class _Inherited:
    """What nodes have of their groups, of their kinds, and of all."""

    def __init__(self, topology: Block) -> None:
        self._defaults = topology.block("defaults", "defaults")
        self._kinds = dict(topology.blocks("kinds", "kind"))
        self._groups = dict(topology.blocks("groups", "group"))

    def kind(self, block: Block) -> str:
        """A node's kind."""
        group = self._groups.get(block.text("group") or "")
        for source in (block, group, self._defaults):
            if source is not None and (kind := source.text("kind")):
                return kind
        return ""

    def node(self, block: Block) -> Block:
        """A node with all that it inherits."""
        group = self._groups.get(block.text("group") or "")
        sources = [self._defaults, self._kinds.get(self.kind(block)), group, block]
        merged: dict[str, Any] = {}
        for source in sources:
            for key, value in ({} if source is None else source.values).items():
                before = merged.get(key)
                if key in _JOINED and isinstance(value, dict) and isinstance(before, dict):
                    merged[key] = {**before, **value}
                elif key in _ADDED and isinstance(value, list) and isinstance(before, list):
                    merged[key] = [*before, *value]
                else:
                    merged[key] = value
        values = Lined(merged)
        for source in sources:
            values.lines |= getattr({} if source is None else source.values, "lines", {})
        return Block(
            who=block.who, file=block.file, line=block.line, values=values, remarks=block.remarks
        )


def _node(lab: Lab, name: str, nodes: Block, block: Block) -> Node:
    for key in ("kind", "group"):
        block.take(key)
    reference = block.text("image")
    if reference is None:
        raise block.mistake("image", "it has no image", "image: NAME:TAG")
    files = files_of(block, "binds", lab)
    node = Node(
        name=name,
        place=nodes.place(name),
        image=lab.image(reference, block.place("image"), files),
    )
    own = {key: text or "" for key, text in block.pairs("env").items()}
    env = {**variables(block, "env-files"), **own}
    if env:
        node.arguments["env"] = env
    if words := command_of(block, lab, reference, "cmd"):
        node.arguments["command"] = words
    limits: dict[str, Any] = {}
    if (cpus := block.number("cpu")) is not None:
        limits["cpus"] = cpus
    if memory := block.text("memory"):
        limits["memory_mib"] = mebibytes(block, "memory", memory)
    if limits:
        node.arguments["limits"] = Call(function=Limits, name="Limits", kwargs=limits)
    node.commands = [f"sysctl -w {key}={text}" for key, text in block.pairs("sysctls").items()]
    node.commands += block.texts("exec")
    for key, why in (
        ("mgmt-ipv4", "tests reach it without a network for that"),
        ("mgmt-ipv6", "tests reach it without a network for that"),
        ("ports", "machine.forward(PORT) leads to a port while a test wants it"),
        ("cap-add", "a system container has all capabilities inside"),
        ("startup-delay", "use wait_for= or after="),
    ):
        if block.take(key) is not None:
            block.remark(key, f"{key} is not taken: {why}")
    block.leave()
    return node


def _wires(topology: Block, nodes: dict[str, Node], bridges: dict[str, Wire]) -> Iterator[Wire]:
    """Networks of its links, each a wire between two nodes; those of bridges are joined there."""
    for number, values in enumerate(topology.rows("links")):
        if not isinstance(values, dict):
            what = f"link {number + 1} is {values!r} instead of a mapping"
            raise topology.mistake("links", what, '- endpoints: ["a:eth1", "b:eth1"]')
        link = Block(
            who=f"link {number + 1}",
            file=topology.file,
            line=next(iter(getattr(values, "lines", {}).values()), topology.place("links").line),
            values=values,
            remarks=topology.remarks,
        )
        ends = list(_ends(link))
        kind = link.text("type") or "veth"
        mtu = link.take("mtu")
        link.leave()
        if outside := next((name for name, _, _ in ends if name in _OUTSIDE), None):
            link.remark("endpoints", f"it leads outside ({outside}): it is left out; see gates")
            continue
        if kind != "veth" or len(ends) != 2:
            link.remark("type", f"a link of type {kind} is left out")
            continue
        unknown = [name for name, _, _ in ends if name not in nodes and name not in bridges]
        if unknown:
            known = ", ".join([*nodes, *bridges]) or "none"
            if any(unknown[0] == name for name in topology.block("nodes").values):
                link.remark("endpoints", f"its node {unknown[0]!r} is left out, and so is it")
                continue
            raise link.mistake("endpoints", f"there is no node {unknown[0]!r}", f"one of {known}")
        wire = next((bridges[name] for name, _, _ in ends if name in bridges), None)
        is_new = wire is None
        if wire is None:
            wanted = "_".join(name for name, _, _ in ends)
            wire = Wire(
                wanted=wanted,
                place=link.place("endpoints"),
                arguments={"kind": "point-to-point", **({"mtu": mtu} if mtu else {})},
            )
        for name, interface, mac in ends:
            if name not in nodes:
                continue
            if interface in nodes[name].links:
                raise link.mistake(
                    "endpoints", f"node {name!r} has two links {interface!r}", "another interface"
                )
            nodes[name].links[interface] = wire
            if mac:
                nodes[name].macs[interface] = mac
        if is_new:
            yield wire


def _ends(link: Block) -> Iterator[tuple[str, str, str | None]]:
    """Node, interface and hardware address of each end."""
    endpoints = link.take("endpoints")
    if not isinstance(endpoints, list):
        raise link.mistake("endpoints", "it has no endpoints", 'endpoints: ["a:eth1", "b:eth1"]')
    for end in endpoints:
        if isinstance(end, dict):
            mac = end.get("mac")
            yield str(end.get("node")), str(end.get("interface")), mac and str(mac)
            continue
        node, _, interface = str(end).partition(":")
        if not interface:
            raise link.mistake(
                "endpoints", f"endpoint {end!r} names no interface", f'"{node}:eth1"'
            )
        yield node, interface, None
