"""Images of containers boot as virtual machines, as they are; the same ones run as containers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image, Layout, Machine, Network, Vm
from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.images.builder import ensure
from pytest_carthage.images.exports import results
from pytest_carthage.portal import Portal
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.providers.netns import NetnsProvider
from tests.support.layouts import building

pytestmark = [pytest.mark.real, pytest.mark.emulated, pytest.mark.timeout(900)]

#: what somebody else has made, without an init
_APP = Image.debian("bookworm", packages=["python3", "iproute2", "iputils-ping"]).with_(name="app")
_CONTAINERFILE = """FROM scratch
ADD root.tar /
ENV GREETING="good morning"
WORKDIR /srv
USER www-data
CMD ["python3", "-m", "http.server", "8080"]
"""


def _oci(folder: Path, portal: Portal) -> Image:
    image = _APP.with_(
        command=["python3", "-m", "http.server", "8080"],
        env={"GREETING": "good morning"},
        workdir="/srv",
        user="www-data",
    )
    _save(image, folder / "app.oci.tar", portal)
    return Image.oci(f"oci-archive:{folder / 'app.oci.tar'}", name="app")


def _containerfile(folder: Path, portal: Portal) -> Image:
    _save(_APP, folder / "root.tar", portal)
    (folder / "Containerfile").write_text(_CONTAINERFILE)
    return Image.containerfile(folder / "Containerfile", name="app")


def _save(image: Image, path: Path, portal: Portal) -> None:
    def note(who: str, text: str) -> None:
        pass

    built = portal.call(lambda: ensure(image, portal=portal, note=note))
    portal.call(lambda: results.save(built, path))


@pytest.fixture(scope="module", params=[_oci, _containerfile])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    problems = [*LibvirtProvider().check(), *NetnsProvider().check()]
    if problems := problems + check_tools({"debian", "oci", "containerfile"}):
        pytest.skip("; ".join(map(str, problems)))
    folder = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(Portal()) as portal:
        patch.setenv("CARTHAGE_STATE", str(folder / "state"))
        image = request.param(folder, portal)

        class Lab(Layout):
            lan = Network("10.34.0.0/24", "fd00:34::/64")
            vm = Machine(image, on=Vm(), links={"eth0": lan.at(".10", "::10")}, ready_timeout_s=500)
            container = Machine(image, on="netns", links={"eth0": lan.at(".20", "::20")})

        kinds: Any = {"libvirt": LibvirtProvider, "netns": NetnsProvider}
        with building(portal, kinds) as build:
            yield build(Lab)


_ASK = "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://{}:8080/name\").read())'"


def test_one_image_serves_from_a_virtual_machine_and_from_a_container(lab: Any) -> None:
    for machine, other in ((lab.vm, lab.container), (lab.container, lab.vm)):
        machine.write_text("/srv/name", f"I am {machine.name}")
        lab.vm.run(
            f"for n in $(seq 200); do {_ASK.format(machine.name)} && exit; sleep 0.2; done; exit 1",
            timeout_s=120,
        )
        assert f"I am {machine.name}" in other.run(_ASK.format(machine.name)).stdout


def test_main_process_is_that_of_the_image_of_its_user_in_its_folder(lab: Any) -> None:
    look = (
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q '^python3 -m http.s' || "
        "continue; echo $(stat -c %U $p) $(readlink $p/cwd) "
        "$(tr '\\0' '\\n' < $p/environ | grep GREETING); done"
    )
    for machine in (lab.vm, lab.container):
        assert machine.run(look).stdout.strip() == "www-data /srv GREETING=good morning"
        assert machine.run("echo $GREETING").stdout.strip() == "good morning"


def test_virtual_machine_has_a_kernel_of_its_own_and_is_otherwise_the_image(lab: Any) -> None:
    assert "root=/dev/vda" in lab.vm.read_text("/proc/cmdline")
    packages = "dpkg-query -W"
    assert lab.vm.run(packages).stdout == lab.container.run(packages).stdout
    for path in ("/boot", "/sbin/init", "/etc/systemd"):
        same = f"ls -d {path}/* {path} 2> /dev/null"
        printed = lab.container.run(same, check=False).stdout
        assert lab.vm.run(same, check=False).stdout == printed


def test_both_are_on_the_network_by_either_family(lab: Any) -> None:
    for machine, other in ((lab.vm, "::20"), (lab.container, "::10")):
        assert machine.run(f"ping -c1 -W5 fd00:34{other}").ok
        mac = machine.planned.links[0].mac
        assert machine.read_text("/sys/class/net/eth0/address").strip() == mac


def test_virtual_machine_of_an_image_without_an_init_stops_starts_and_reboots(lab: Any) -> None:
    vm = lab.vm
    boots = [vm.read_text("/proc/sys/kernel/random/boot_id")]
    vm.write_text("/srv/kept", "x")
    vm.stop()
    vm.start()
    boots.append(vm.read_text("/proc/sys/kernel/random/boot_id"))
    vm.reboot()
    boots.append(vm.read_text("/proc/sys/kernel/random/boot_id"))
    assert len(set(boots)) == 3
    assert vm.read_text("/srv/kept") == "x"
    assert lab.container.run("ping -c1 -W5 vm").ok
