"""What the page on cloud images says of a layout."""

from __future__ import annotations

from pathlib import Path

from pytest_carthage.planning import make_plan

_LAYOUT = '''
# docs: layout
from pytest_carthage import Image, Layout, Machine, Network


class Mixed(Layout):
    """A cloud image, an appliance, and a server that is a container."""

    lan = Network("10.0.0.0/24")

    web = Machine(
        Image.cloud("debian-12-generic-amd64.qcow2"),
        on="libvirt",
        links={"eth0": lan.at(".10", mac="02:00:00:00:00:10")},
    )
    firewall = Machine(Image.disk("appliance.qcow2"), on="libvirt", links={"eth0": lan.at(".1")})
    db = Machine(Image.debian("bookworm"), links={"eth0": lan.at(".20")})


# docs: end
'''


def test_layout_of_the_page_is_planned(tmp_path: Path) -> None:
    namespace: dict[str, object] = {"__name__": "page"}
    exec(compile(_LAYOUT, str(tmp_path / "conftest.py"), "exec"), namespace)
    plan = make_plan(namespace["Mixed"])  # type: ignore[arg-type]
    assert [machine.target for machine in plan.machines.values()] == ["libvirt", "libvirt", "netns"]
    web = plan.machines["web"].image
    assert web is not None
    assert web.is_cloud
    assert web.path == tmp_path / "debian-12-generic-amd64.qcow2"
