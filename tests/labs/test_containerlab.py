"""Topologies of containerlab as layouts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_carthage import Image, Layout, LayoutError
from pytest_carthage.planning import make_plan
from tests.labs.conftest import CLOS

ALPINE = Image.debian("bookworm", name="alpine")


def written(folder: Path, text: str) -> Path:
    path = folder / "x.clab.yml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def clos() -> type[Layout]:
    with pytest.warns(UserWarning, match="lab clos.clab.yml: the layout has not all of it"):
        return Layout.from_containerlab(CLOS, images={"alpine:3": ALPINE})


def test_nodes_are_machines_and_links_are_wires(clos: type[Layout]) -> None:
    plan = make_plan(clos)
    assert list(plan.machines) == ["leaf_1", "leaf_2", "client1", "client2"]
    assert plan.machines["leaf_1"].hostname == "leaf-1"
    assert plan.machines["leaf_1"].forward
    assert not plan.machines["client1"].forward
    assert [str(link.address) for link in plan.machines["leaf_1"].links] == [
        "10.0.1.1/24",
        "10.0.12.1/24",
    ]
    assert {network.kind for network in clos.networks().values()} == {"point-to-point"}
    assert clos.networks()["client2_leaf_2"].mtu == 1400


def test_node_has_what_it_inherits_and_its_own(clos: type[Layout]) -> None:
    client1, client2 = clos.machines()["client1"], clos.machines()["client2"]
    assert dict(client2.env) == {"SITE": "lab", "ROLE": "server"}
    assert client2.command == ("sleep", "1000")
    assert client1.image is not None
    assert client1.image.base == ALPINE.base
    assert [getattr(one, "target", None) for one in client1.image.contents] == ["/etc/motd"]


def test_commands_that_declare_nothing_are_run(clos: type[Layout]) -> None:
    (startup,) = clos.machines()["client1"].roles
    assert getattr(startup, "commands", None) == ('sh -c "echo $SITE > /srv/site"',)
    assert clos.machines()["leaf_1"].roles == ()


def test_what_is_not_taken_is_listed_with_its_line(clos: type[Layout]) -> None:
    assert [str(remark) for remark in clos.not_taken] == [
        "clos.clab.yml:2: mgmt is not taken: tests reach machines without a network for it",
        "clos.clab.yml:24: node 'client1': mgmt-ipv4 is not taken: tests reach it without a network"
        " for that",
        "clos.clab.yml:40: node 'spine': its kind 'nokia_srlinux' is none of Linux: the node is"
        " left out",
        "clos.clab.yml:47: link 4: its node 'spine' is left out, and so is it",
    ]


def test_layout_of_a_lab_can_be_subclassed(clos: type[Layout]) -> None:
    bigger = type("Bigger", (clos,), {"client2": None})
    assert list(make_plan(bigger).machines) == ["leaf_1", "leaf_2", "client1"]


def test_key_that_nobody_knows_is_listed(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "topology:\n  nodes:\n    a:\n      kind: linux\n      image: x\n      speed: fast\n",
    )
    with pytest.warns(UserWarning, match=r"x\.clab\.yml:6: node 'a': speed is not understood"):
        made = Layout.from_containerlab(path, images={"x": None})
    assert len(made.not_taken) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: x\n",
            r"x\.clab\.yml: there is no topology; declared at .*x\.clab\.yml:1; try: top",
        ),
        ("a: [\n", r"x\.clab\.yml: this is no YAML: .*; declared at .*x\.clab\.yml:2"),
        ("- a\n", "the document is no mapping"),
        (
            "topology:\n  nodes:\n    a: {kind: linux}\n",
            r"node 'a': it has no image; declared at .*x\.clab\.yml:3; try: image: NAME:TAG",
        ),
        (
            "topology:\n  nodes:\n    a: {image: x}\n  links:\n"
            '    - endpoints: ["a:eth1", "b:eth1"]\n',
            r"link 1: there is no node 'b'; declared at .*x\.clab\.yml:5; try: one of a$",
        ),
        (
            "topology:\n  nodes:\n    a: {image: x}\n  links:\n    - endpoints: [a, a:eth2]\n",
            r"link 1: endpoint 'a' names no interface; declared at .*:5; try: \"a:eth1\"",
        ),
        (
            "topology:\n  nodes:\n    a:\n      image: x\n      binds: [nothing:/etc/x]\n",
            r"node 'a': there is no nothing in .*; declared at .*x\.clab\.yml:5",
        ),
        (
            "topology:\n  nodes:\n    a: {image: x}\n    b: {image: x}\n  links:\n"
            '    - endpoints: ["a:much-too-long-name", "b:eth1"]\n',
            r"machine 'a' of layout 'X': interface name .* has 18 bytes.*x\.clab\.yml:3",
        ),
        (
            "topology:\n  nodes:\n    a:\n      image: x\n      memory: much\n",
            r"node 'a': memory 'much' is no amount of memory; declared at .*:5; try: 512m",
        ),
    ],
)
def test_mistake_is_told_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        Layout.from_containerlab(written(tmp_path, text), images={"x": None})


def test_lab_that_is_not_there_is_told_with_the_authors_line() -> None:
    with pytest.raises(
        LayoutError,
        match=r"lab: there is no .*/labs/none\.clab\.yml; declared at .*test_containerlab\.py:"
        r"\d+; try: a path from the folder of this file",
    ):
        Layout.from_containerlab("none.clab.yml")


def test_images_that_are_not_here_are_told_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "topology:\n  nodes:\n    a: {image: example.com/no/such:1}\n    b: {image: none-such}\n",
    )
    with pytest.raises(LayoutError) as caught:
        Layout.from_containerlab(path)
    assert re.fullmatch(
        r"lab x\.clab\.yml: of its images are not in this host's store:\n"
        r"  example\.com/no/such:1 \(at .*x\.clab\.yml:3\)\n"
        r"  none-such \(at .*x\.clab\.yml:4\)\n"
        r"try: podman pull example.com/no/such:1, or "
        r"images=\{'example.com/no/such:1': Image.debian\('bookworm'\)\}",
        str(caught.value),
    )


def test_bridge_of_the_lab_is_one_network(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "topology:\n  nodes:\n    br0: {kind: bridge}\n    a: {image: x}\n    b: {image: x}\n"
        '  links:\n    - endpoints: ["a:eth1", "br0:p1"]\n    - endpoints: ["b:eth1", "br0:p2"]\n',
    )
    made = Layout.from_containerlab(path, images={"x": None})
    assert list(made.networks()) == ["br0"]
    assert [link.network for one in make_plan(made).machines.values() for link in one.links] == [
        "br0",
        "br0",
    ]


def test_addresses_that_do_not_fit_together_stay_commands(tmp_path: Path) -> None:
    commands = ["ip addr add 10.0.0.1/24 dev eth1", "ip route add default via 10.0.9.9"]
    path = written(
        tmp_path,
        f"topology:\n  nodes:\n    a: {{image: x, exec: {commands}}}\n"
        "    b: {image: x, exec: [ip addr add 10.0.1.1/24 dev eth1]}\n"
        '  links:\n    - endpoints: ["a:eth1", "b:eth1"]\n',
    )
    made = Layout.from_containerlab(path, images={"x": None})
    assert [getattr(one, "commands", None) for one in made.machines()["a"].roles] == [
        tuple(commands)
    ]
    assert make_plan(made).machines["a"].links[0].address is None
