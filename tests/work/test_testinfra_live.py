"""Every testinfra module on live machines, and what one assertion costs there."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from pytest_carthage import Layout, Machine, Network

pytestmark = pytest.mark.real


class Lab(Layout):
    """Two machines of the host's own file system."""

    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")})
    two = Machine(links={"eth0": lan.at(".2")})


lab = Lab.fixture()


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"machines here have the host's tools: no {program}"
    )


def test_file_user_group_and_content(lab: Lab) -> None:
    file = lab.one.host.file("/etc/hostname")
    assert file.is_file
    assert file.user == "root"
    assert not lab.one.host.file("/etc/no such").exists
    lab.one.run("printf '\\377\\000\\n' > /tmp/binary; chmod 600 /tmp/binary")
    binary = lab.one.host.file("/tmp/binary")
    assert binary.content == b"\xff\x00\n"
    assert binary.mode == 0o600
    assert binary.size == 3
    assert lab.one.host.user("root").uid == 0
    assert lab.one.host.group("root").gid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="another user takes root")
def test_host_of_another_user(lab: Lab) -> None:
    # docs: host_as
    app = lab.one.host_as("nobody")
    assert app.run("touch /etc/of-the-app").failed
    # docs: end
    assert app.user().name == "nobody"
    with app.sudo():
        assert app.user().name == "root"
    assert lab.one.host_as("nobody") is app
    assert lab.one.host.user().name == "root"


@needs("ip")
def test_interface_and_address(lab: Lab) -> None:
    host = lab.one.host
    assert host.interface("eth0").exists
    assert "10.0.0.1" in host.interface("eth0").addresses
    assert not host.interface("eth9").exists
    assert host.addr("two").ipv4_addresses == ["10.0.0.2"]
    assert host.addr("two").is_resolvable


@needs("ping")
def test_other_machine_is_reachable(lab: Lab) -> None:
    assert lab.one.host.addr("10.0.0.2").is_reachable
    assert lab.one.host.addr("two").is_reachable


@needs("ss")
@needs("python3")
def test_socket_and_process_are_the_machines_own(lab: Lab) -> None:
    lab.two.run("python3 -m http.server 8080 >/dev/null 2>&1 &")
    for _ in range(200):
        if lab.two.host.socket("tcp://0.0.0.0:8080").is_listening:
            break
        time.sleep(0.02)
    assert lab.two.host.socket("tcp://8080").is_listening or (
        lab.two.host.socket("tcp://0.0.0.0:8080").is_listening
    )
    assert not lab.one.host.socket("tcp://0.0.0.0:8080").is_listening
    assert lab.one.host.addr("two").port(8080).is_reachable
    assert not lab.one.host.addr("two").port(8081).is_reachable
    served = lab.two.host.process.filter(user="root", comm="python3")
    assert any("http.server" in process.args for process in served)
    assert not [one for one in lab.one.host.process.filter() if "http.server" in one.args]


@needs("sysctl")
def test_sysctl(lab: Lab) -> None:
    assert lab.one.host.sysctl("net.ipv4.ip_forward") == 0


@needs("dpkg-query")
def test_package(lab: Lab) -> None:
    assert lab.one.host.package("dpkg").is_installed
    assert not lab.one.host.package("no-such-package").is_installed


def test_service_that_does_not_exist_is_not_running(lab: Lab) -> None:
    assert not lab.one.host.service("no-such-service").is_running


def test_rest_of_the_modules(lab: Lab) -> None:
    host = lab.one.host
    assert host.system_info.type == "linux"
    assert host.environment()["HOME"] == lab.one.run("echo $HOME").stdout.strip()
    assert host.mount_point("/proc").filesystem == "proc"
    assert host.command.exists("sh")
    assert host.check_output("hostname") == "one"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's machines have one user")
def test_sudo_runs_as_another_user(lab: Lab) -> None:
    with lab.one.host.sudo("nobody"):
        assert lab.one.host.check_output("id -un") == "nobody"
    assert lab.one.host.check_output("id -un") == "root"


def test_commands_of_assertions_are_kept_for_the_failure_bundle(lab: Lab) -> None:
    assert lab.one.host.file("/etc/hosts").exists
    assert lab.one.commands[-1].text.endswith("'test -e /etc/hosts'")


def test_host_is_made_once(lab: Lab) -> None:
    assert lab.one.host is lab.one.host
