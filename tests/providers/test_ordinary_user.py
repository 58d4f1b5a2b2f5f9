"""Machines with an image for a user without privileges, who has subordinate ids."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from pytest_carthage.cli import main
from pytest_carthage.fabric.container import groups
from pytest_carthage.store.built import Built
from tests.support.ordinary import User, users
from tests.support.unprivileged import REPOSITORY

# each takes a tenth of it on a host that has nothing else to do
pytestmark = [pytest.mark.real, pytest.mark.timeout(700)]

SHOP = """
import time

import pytest

from pytest_carthage import Layout, Machine, Network, exited
from tests.providers.conftest import DEBIAN


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")
    gw = Machine(DEBIAN, links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")}, forward=True)
    db = Machine(
        DEBIAN,
        links={"eth0": lan.at(".10", gateway=".1")},
        command="exec sleep 1000",
        restart="on-failure",
    )
    web = Machine(DEBIAN, links={"eth0": dmz.at(".20", gateway=".1")})
    till = Machine(links={"eth0": lan.at(".30", gateway=".1")})


shop = Shop.fixture()


def test_each_reaches_the_others(shop):
    assert shop.web.ping("10.0.0.10") < 1
    assert shop.till.ping("192.0.2.20") < 1
    assert shop.db.run("cat /proc/1/comm").stdout.strip() == "cg:db"


def test_files_of_others_are_written_and_kept(shop):
    shop.db.run("mkdir /srv/data; echo x > /srv/data/f; chown -R 999:999 /srv/data; "
                "chmod 700 /srv/data")
    shop.db.stop()
    shop.db.start()
    assert shop.db.run("stat -c %u:%a /srv/data/f").stdout == "999:644\\n"
    assert shop.db.run("cat /srv/data/f", user="999").stdout == "x\\n"


def test_machine_over_the_hosts_files_keeps_what_it_wrote(shop):
    shop.till.run("echo x > /srv/kept; echo x > /tmp/kept; echo x > /etc/kept")
    shop.till.restart()
    assert shop.till.run("cat /srv/kept /tmp/kept /etc/kept").stdout == "x\\nx\\nx\\n"


def test_packets_are_seen_and_cables_pulled(shop):
    with shop.capture("lan", "icmp") as seen:
        shop.till.ping("10.0.0.10")
        assert seen.wait_for(lambda packet: packet.icmp_type == 0).source == "db"
    with shop.db.link("lan").down(), pytest.raises(TimeoutError):
        shop.till.ping("10.0.0.10", timeout_s=0.3)


def test_packages_are_installed_from_the_mirror(shop):
    shop.web.run("apt-get -q update && apt-get -q -y install procps")


def test_that_fails(shop):
    shop.web.run("touch /srv/mine; chown 33 /srv/mine; exit 1")


def test_main_process_is_started_again(shop):
    shop.db.run("kill -9 $(pgrep -x sleep)")
    shop.db.wait_for(exited(-9), timeout_s=30)
    deadline = time.monotonic() + 30
    while shop.db.restarts == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert shop.db.run("pgrep -x sleep").ok


def test_newcomer_is_of_the_same_name_again(shop):
    for _ in range(2):
        shop.add(Machine(DEBIAN, links={"eth0": shop.lan.at(".50")}), name="guest")
        shop.guest.run("test ! -e /srv/data && mkdir /srv/data && chown 5:5 /srv/data")
        shop.remove("guest")
"""


@pytest.fixture(scope="module")
def user(built: Built) -> Iterator[User]:
    with users(built) as user:
        yield user


def test_shop_of_a_user_leaves_nothing_that_he_cannot_remove(user: User) -> None:
    suite = user.folder / "shop"
    suite.mkdir()
    shutil.chown(suite, user.name)
    (suite / "test_shop.py").write_text(SHOP)
    done = user.test(".", "--carthage-artifacts=out", cwd=suite)
    assert "1 failed, 7 passed" in done.stdout, done.stdout + done.stderr
    assert list((suite / "out").iterdir())
    assert not list((user.folder / "state/runs").glob("[!.]*"))
    removed = user.run("pytest_carthage", "images", "rm", "debian", cwd=suite)
    assert removed.returncode == 0, removed.stderr
    user.run("pytest_carthage", "gc", cwd=suite)
    assert not list((user.folder / "images/layers").glob("*"))
    user.remove("shop", "state", "images")


def test_machines_with_systemd_are_refused_without_a_control_group(user: User) -> None:
    done = user.test("tests/providers/bounded.py")
    assert done.returncode, done.stdout
    assert (
        "machines with systemd (of booted) need a control group that is delegated to this user"
        in " ".join(done.stdout.split())
    ), done.stdout


def test_contract_of_containers_holds_for_a_user(user: User) -> None:
    done = user.test("tests/contract", "-k", "podman")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "passed" in done.stdout


def test_contract_holds_for_a_user(user: User) -> None:
    names = ("test_system_containers", "test_host_is_safe")
    which = ["tests/contract", *(f"tests/providers/{name}.py" for name in names)]
    chosen = " or ".join(["netns-image", "netns-systemd", *names])
    done = user.test(*which, "-k", chosen, delegated=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "passed" in done.stdout


def test_limits_of_a_user_need_a_host_with_version_2_of_control_groups(user: User) -> None:
    done = user.test("tests/providers/bounded.py", delegated=True)
    if groups.is_unified():
        assert "3 passed" in done.stdout, done.stdout + done.stderr
        return
    expected = (
        "limits= of bare, plain needs controllers cpu, memory, pids of a control group, which"
        " version 1 of control groups gives to root alone; try: run as root"
    )
    assert expected in " ".join(done.stdout.split()), done.stdout + done.stderr


def test_shop_of_the_examples_is_that_of_a_user(user: User) -> None:
    conftest = str(REPOSITORY / "example_suites/shop/conftest.py")
    packed, suite = user.folder / "shop.tar", user.folder / "examples"
    assert main(["bundle", f"{conftest}:Shop", "-o", str(packed), "-q"]) == 0
    done = user.run("pytest_carthage", "unbundle", str(packed), str(suite), "-qy")
    assert done.returncode == 0, done.stdout + done.stderr
    packed.unlink()
    # that nothing changes the second time is not the user's
    options = ("--carthage-offline", "--carthage-locked", "-k", "not second_time")
    done = user.test(*options, cwd=suite, delegated=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "12 passed, 1 deselected" in done.stdout
    listed = user.run("pytest_carthage", "images", "ls", "--json")
    keys = [image["key"] for image in json.loads(listed.stdout)["images"]]
    for words in (("images", "rm", *keys), ("gc",)):
        done = user.run("pytest_carthage", *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert not list((user.folder / "state/runs").glob("[!.]*"))
    user.remove("examples", "state", "images")
