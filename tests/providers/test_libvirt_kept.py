"""A virtual machine that stays when pytest has ended: every way to it from other processes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.providers.libvirt import LibvirtProvider
from pytest_carthage.state.listing import destroy_environment, find_environment, list_environments
from pytest_carthage.store.root import images_root
from tests.cli.terminal import Terminal
from tests.providers.test_libvirt_faults import assert_none

pytestmark = [pytest.mark.real, pytest.mark.emulated, pytest.mark.timeout(900)]

Capture = pytest.CaptureFixture[str]

CONFTEST = """
from pytest_carthage import Layout, Machine, Network, Vm, stage
from tests.providers.test_libvirt_faults import GUEST


class Lab(Layout):
    lan = Network("10.0.0.0/24")
    near = Machine(on="netns", links={"eth0": lan.at(".1")})
    # with XML of its own, so that it boots by itself: its console is the whole one
    vm = Machine(
        GUEST,
        on=Vm(graphics=True, xml="<description>kept</description>"),
        links={"eth0": lan.at(".2")},
        ready_timeout_s=240,
    )


lab = Lab.fixture()


@stage
def marked(lab):
    lab.vm.run("echo a stage >> /root/marks")
"""

FAILS = """
def test_fails(lab, marked):
    assert lab.vm.run("cat /root/marks").stdout == "nothing"
"""

USES = """
import time

def test_same_machine(lab, marked):
    assert lab.vm.run("cat /root/marks").stdout == "a stage\\n" * 2
    lab.near.ping("vm", timeout_s=60)

def test_elsewhere(lab):
    lab.vm.run("echo 1 > /proc/sys/kernel/sysrq")
    lab.vm.run("(sleep 1; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 < /dev/null &")
    deadline = time.monotonic() + 120
    while lab.aio.machines["vm"].is_up():       # asks nothing of the machine
        assert time.monotonic() < deadline
        assert lab.near.run("sleep 0.5").ok
"""


class Suite:
    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def run(self, test: str, *options: str) -> pytest.RunResult:
        for name, text in (("conftest", CONFTEST), ("test_it", test)):
            self.pytester.path.joinpath(f"{name}.py").write_text(textwrap.dedent(text))
        return self.pytester.runpytest_subprocess("-p", "no:xdist", *options, timeout=600)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Suite]:
    if problems := LibvirtProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    # virsh is given the path of a socket, of which the kernel takes 107 bytes
    state = Path(tempfile.mkdtemp(prefix="cg-"))
    monkeypatch.setenv("CARTHAGE_IMAGES", str(images_root()))
    monkeypatch.setenv("CARTHAGE_STATE", str(state))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    yield Suite(pytester)
    for environment in list_environments():
        assert environment.folder.is_relative_to(state)
        destroy_environment(environment.name)
    assert_none(state)
    shutil.rmtree(state)


def typed(*arguments: str, capfd: Capture) -> str:
    """What a command prints that works."""
    capfd.readouterr()
    status = main([*arguments])
    out, err = capfd.readouterr()
    assert status == 0, (out, err)
    return out


def test_machine_that_is_kept_is_reached_by_every_command_and_taken_up(
    suite: Suite, capfd: Capture
) -> None:
    result = suite.run(FAILS, "--keep-on-fail", "--carthage-name=kept")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*get in:  pytest-carthage shell kept-lab/near"])
    assert "vm" in typed("ls", capfd=capfd)
    assert typed("exec", "kept-lab/vm", "--", "hostname", capfd=capfd) == "vm\n"
    assert "Linux version" in typed("logs", "kept-lab/vm", capfd=capfd)

    # a shell, and the serial console, each with a terminal
    for arguments, steps in (
        (("shell", "kept-lab/vm"), [("echo $((6 * 7))-$(hostname)\n", "42-vm"), ("exit\n", None)]),
        (("console", "kept-lab/vm"), [("\r", "login:"), ("\x1d", "Detached from kept-lab/vm.")]),
    ):
        terminal = Terminal(*arguments)
        try:
            if arguments[0] == "console":
                terminal.expect("^] detaches.", timeout_s=60)
            for text, answer in steps:
                terminal.type(text)
                if answer is not None:
                    terminal.expect(answer, timeout_s=60)
            assert terminal.process.wait(timeout=60) == 0
        finally:
            terminal.close()

    # its screen, and libvirt itself
    commands = typed("view", "--print", "kept-lab/vm", capfd=capfd)
    uri = re.search(r"--connect '?(qemu\+unix:\S+?)'? vm", commands)
    assert uri is not None, commands
    view = LibvirtProvider().view(find_environment("kept-lab").folder, "vm")
    assert view is not None
    with socket.socket(socket.AF_UNIX) as vnc:
        vnc.settimeout(30)
        vnc.connect(str(view.socket))
        assert vnc.recv(12) == b"RFB 003.008\n"
    if virsh := shutil.which("virsh"):
        argv = [virsh, "-c", uri[1], "list", "--name"]
        listed = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert listed.stdout.split() == ["vm"], listed.stderr

    # stages, and another session, in which the kernel panics that no test looks at
    assert main(["run", "--quiet", "kept-lab", "marked"]) == 0
    result = suite.run(USES, "--carthage-use=kept-lab")
    result.assert_outcomes(passed=1, failed=1)
    text = str(result.stdout)
    assert re.search(r"machine 'vm' of layout 'Lab': its kernel panicked at .*printed last:", text)
    assert "Kernel panic - not syncing: sysrq triggered crash" in text
    assert "no line of the test has met this" in text

    assert "sysrq triggered crash" in typed("logs", "kept-lab/vm", capfd=capfd)
    typed("rm", "kept-lab", capfd=capfd)
