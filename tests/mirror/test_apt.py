"""Machines that install packages while they run, from the mirror of their layout."""

from __future__ import annotations

import time

import pytest

from pytest_carthage import CommandError, Layout, Machine, Network
from pytest_carthage.channels.agent import execute
from pytest_carthage.events import Recorder
from pytest_carthage.fabric.wire import channel
from pytest_carthage.handles.result import Result
from pytest_carthage.images.policy import Policy
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.store.built import Built
from tests.providers.conftest import DEBIAN
from tests.support.layouts import Build

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class Shop(Layout):
    packages = ("hello",)

    lan = Network("10.0.0.0/24")
    web = Machine(DEBIAN, links={"eth0": lan.at(".1")})
    #: another image: what it has may be had by all
    till = Machine(DEBIAN.with_packages("figlet"))
    bare = Machine(links={"eth0": lan.at(".3")})


@pytest.fixture(scope="module")
def shop(build: Build, built: Built) -> Shop:
    return build(Shop)


def _install(machine: MachineHandle, *names: str) -> Result:
    if not machine.run("ls /var/lib/apt/lists/*InRelease", check=False).ok:
        machine.run("apt-get -q update")
    return machine.run(["apt-get", "-q", "-y", "install", *names], check=False)


def test_lists_are_as_old_as_can_be_before_the_first_update(shop: Shop) -> None:
    shop.add(Machine(DEBIAN), name="fresh")
    assert shop["fresh"].run("stat -c %Y /var/lib/apt/lists").stdout == "0\n"


def test_update_takes_lists_that_the_archive_has_signed(shop: Shop) -> None:
    updated = shop.web.run("apt-get -q update")
    assert "http://deb.debian.org/debian bookworm InRelease" in updated.stdout
    assert updated.stderr == ""
    again = shop.web.run("apt-get -q update")
    assert "Hit:1 http://deb.debian.org/debian bookworm InRelease" in again.stdout
    assert shop.web.run("apt-cache policy figlet").stdout.count("Candidate: 2.2.5")


def test_package_that_the_layout_names_is_installed(shop: Shop) -> None:
    assert _install(shop.web, "hello").ok
    assert shop.web.run("hello").stdout == "Hello, world!\n"


def test_package_of_another_image_of_the_layout_is_installed(shop: Shop) -> None:
    assert _install(shop.web, "figlet").ok


def test_machine_without_a_network_installs_packages(shop: Shop) -> None:
    assert _install(shop.till, "hello").ok


def test_other_package_is_refused_by_name(shop: Shop, recorder: Recorder) -> None:
    refused = _install(shop.web, "cowsay")
    assert not refused.ok
    assert (
        "403  cowsay 3.03+dfsg2-8 is in no image of layout Shop; try: "
        "packages = ['hello', 'cowsay'] or \"open\" in the layout"
    ) in refused.stderr
    deadline = time.monotonic() + 30
    while not any("cowsay" in event.text for event in recorder.events if event.subject == "web"):
        assert time.monotonic() < deadline, "nobody was told of the refusal"
        time.sleep(0.01)


def test_repository_that_nobody_has_named_is_refused_by_name(shop: Shop) -> None:
    path = "/etc/apt/sources.list.d/x.list"
    shop.till.write_text(path, "deb http://apt.shop.example/debian stable main\n")
    refused = shop.till.run("apt-get -q update", check=False)
    shop.till.run(["rm", path])
    assert (
        "http://apt.shop.example/debian/dists/stable/InRelease is of no repository of layout Shop; "
        'try: packages = Packages(repositories=["http://apt.shop.example/debian"])'
    ) in refused.stderr


def test_source_with_https_is_served_by_who_signs_for_it(shop: Shop) -> None:
    shop.add(Machine(DEBIAN, links={"eth0": shop.lan.at(".7")}), name="secure")
    machine = shop["secure"]
    machine.write_text(
        "/etc/apt/sources.list",
        "deb https://deb.debian.org/debian bookworm main\n"
        "deb https://apt.shop.example/debian stable main\n",
    )
    updated = machine.run("apt-get -q update", check=False)
    assert " https://deb.debian.org/debian bookworm InRelease [" in updated.stdout
    assert "https://apt.shop.example/debian/dists/stable/InRelease is of no repo" in updated.stderr
    assert _install(machine, "hello").ok


def test_mirror_leads_to_no_other_host(shop: Shop) -> None:
    script = (
        "exec 3<>/dev/tcp/127.86.255.254/64186; "
        r"printf 'GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\n\r\n' >&3; read -r line <&3; "
        "echo $line"
    )
    asked = shop.web.run(["bash", "-c", script])
    assert asked.stdout.startswith("HTTP/1.1 403 http://192.0.2.1/ is of no repository"), asked


def test_machine_installs_after_it_was_stopped_and_started(shop: Shop) -> None:
    shop.web.restart()
    assert _install(shop.web, "hello", "figlet").ok


def test_machine_that_joins_installs_and_leaves(shop: Shop) -> None:
    shop.add(Machine(DEBIAN, links={"eth0": shop.lan.at(".9")}), name="guest")
    assert _install(shop["guest"], "hello").ok
    shop.remove("guest")
    shop.add(Machine(DEBIAN, links={"eth0": shop.lan.at(".9")}), name="guest")
    assert _install(shop["guest"], "hello").ok


def test_documentation_that_was_left_out_is_told_of(shop: Shop) -> None:
    with pytest.raises(
        CommandError,
        match=r"/usr/share/doc/hello/copyright is left out of the machine's image, as all of "
        r"/usr/share/doc, to save space; try: Image\.debian\(\.\.\., docs=True\)",
    ):
        shop.web.run("cp /usr/share/doc/hello/copyright /tmp")


def test_machine_without_an_image_is_left_as_the_host_is(shop: Shop) -> None:
    assert not shop.bare.run("test -e /etc/apt/apt.conf.d/zz-carthage", check=False).ok


def test_offline_run_serves_what_the_host_has_and_names_the_rest(build: Build, shop: Shop) -> None:
    """The lists are there, and what the tests before have installed."""
    _install(shop.web, "hello")
    lan = Network("10.0.0.0/24")
    members = {
        "packages": "open",
        "lan": lan,
        "web": Machine(DEBIAN, links={"eth0": lan.at(".1")}),
    }
    web = build(Layout.of("Alone", members), policy=Policy(offline=True))["web"]
    assert _install(web, "hello").ok
    refused = web.run("apt-get -q -y install --no-install-recommends bible-kjv-text", check=False)
    assert "503  offline, and not in this host's cache: http" in refused.stderr, refused.stderr


def test_kept_environment_has_its_mirror(build: Build, built: Built) -> None:
    """Nobody has asked while the session was there; machines ask when it is gone."""
    lan = Network("10.0.0.0/24")
    members = {"lan": lan, "web": Machine(DEBIAN, links={"eth0": lan.at(".1")})}
    kept = build(Layout.of("Kept", members))
    layout = kept.aio
    layout.portal.call(lambda: layout.keep(for_s=120))

    async def update() -> str:
        try:
            opened = await channel.connect(str(layout.socket), "the kept machine", "web")
            argv = ["apt-get", "-q", "update"]
            ended = await execute(
                opened, argv, user=None, cwd=None, env={}, input=None, timeout_s=60
            )
            opened.close()
            return ended[1].decode()
        finally:
            await layout.run.destroy(layout.name)

    assert "http://deb.debian.org/debian bookworm InRelease" in layout.portal.call(update)
