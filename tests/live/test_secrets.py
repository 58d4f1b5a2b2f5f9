"""What a command is given and prints in secret is in no record: commands, messages, events."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Network
from pytest_carthage.errors import CommandError, TimeLimitError
from pytest_carthage.events import Recorder
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.report.bundle import Failure, Shelf
from pytest_carthage.roles import Certificate, CertificateAuthority
from tests.live.conftest import Build

pytestmark = pytest.mark.real

SECRET = "hunter2-correct-horse"


class Lab(Layout):
    lan = Network("10.0.0.0/24")
    one = Machine(links={"eth0": lan.at(".1")})


@pytest.fixture
def machine(build: Build) -> MachineHandle:
    return build(Lab)["one"]


def _collected(environment: Layout, recorder: Recorder, folder: Path) -> str:
    """All text of a bundle."""
    failure = Failure(test="t", phase="call", began_s=0, ended_s=9e9, error="E assert 0", run="r")

    async def collect() -> Path:
        return (await Shelf(folder).collect(failure, [environment.aio], recorder)).folder

    made = environment.aio.portal.call(collect)
    files = [path for path in made.rglob("*") if path.is_file()]
    return "\n".join(path.read_text(errors="replace") for path in files)


def test_secret_command_gives_its_output_to_the_caller_alone(
    build: Build, recorder: Recorder, tmp_path: Path
) -> None:
    lab = build(Lab)
    machine = lab["one"]
    result = machine.run(
        "cat; echo $PASSWORD; echo $PASSWORD >&2",
        input=SECRET,
        env={"PASSWORD": f"{SECRET}-too"},
        secret=True,
    )
    assert result.stdout == f"{SECRET}{SECRET}-too\n"
    assert result.stderr == f"{SECRET}-too\n"
    assert result.stdout_bytes == result.stdout.encode()
    assert SECRET not in repr(result)  # pytest shows it when an assertion on it fails
    kept = machine.commands[-1]
    assert (kept.text, kept.status, kept.secret) == (result.text, 0, True)
    assert (kept.stdout, kept.stderr, kept.stdout_bytes) == ("", "", b"")
    collected = _collected(lab, recorder, tmp_path)
    assert SECRET not in collected
    assert "cat; echo $PASSWORD" in collected
    assert "--- output is secret\n" in collected


def test_bytes_of_a_secret_that_are_no_text_are_not_kept(machine: MachineHandle) -> None:
    result = machine.run(r"printf '\377\376'", secret=True)
    assert result.stdout_bytes == b"\xff\xfe"
    assert machine.commands[-1].stdout_bytes == b""


def test_secret_command_that_fails_does_not_say_what_it_printed(machine: MachineHandle) -> None:
    with pytest.raises(CommandError) as caught:
        machine.run(f"cat; echo {SECRET[:7]}; exit 4", input=SECRET, secret=True)
    assert SECRET not in str(caught.value)
    assert "exited with status 4 after" in str(caught.value)
    assert str(caught.value).endswith("what it printed is secret")
    assert caught.value.result.stdout.startswith(SECRET)  # for who asks
    assert SECRET not in repr(caught.value)


def test_secret_command_that_takes_too_long_does_not_say_what_it_printed(
    machine: MachineHandle,
) -> None:
    with pytest.raises(TimeLimitError) as caught:
        machine.run("cat; sleep 9", input=SECRET, secret=True, timeout_s=0.3)
    assert "did not end in 0.3 s and was killed; what it printed is secret" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert machine.commands[-1].stdout == ""


def test_command_that_is_not_secret_is_kept_as_it_was(machine: MachineHandle) -> None:
    result = machine.run("echo seen", secret=False)
    assert machine.commands[-1] == result
    assert "seen" in repr(result)


def test_secret_command_through_aio(machine: MachineHandle) -> None:
    async def go() -> str:
        return (await machine.aio.run("cat", input=SECRET, secret=True)).stdout

    assert asyncio.run(go()) == SECRET
    assert machine.commands[-1].stdout == ""


def test_secret_command_of_testinfra(
    machine: MachineHandle, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):  # testinfra logs each command with what it printed
        done = machine.host.run("echo %s | rev", SECRET[::-1], secret=True)
    assert done.stdout == f"{SECRET}\n"
    assert SECRET not in repr(done)
    assert machine.commands[-1].stdout == ""
    assert SECRET not in caplog.text


def test_keys_that_roles_hand_over_are_in_no_record(
    build: Build, recorder: Recorder, tmp_path: Path
) -> None:
    class Signed(Layout):
        lan = Network("10.0.0.0/24")
        ca = Machine(links={"eth0": lan.at(".1")}, roles=[CertificateAuthority()])
        web = Machine(links={"eth0": lan.at(".2")}, roles=[Certificate()])

    signed = build(Signed)
    key = signed["web"].read_text("/etc/ssl/carthage/server.key")
    assert key.startswith("-----BEGIN PRIVATE KEY-----\n")
    told = json.dumps([event.text for event in recorder.events])
    records = [result for name in ("ca", "web") for result in signed[name].commands]
    for text in (told, repr(records), _collected(signed, recorder, tmp_path)):
        assert "PRIVATE KEY" not in text
        assert key.splitlines()[1] not in text
