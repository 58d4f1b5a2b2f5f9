"""What ssh(1) itself cannot be made to do, by a client that can: asyncssh, with the same file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncssh
import pytest

from tests.ssh.conftest import Hosts

pytestmark = [pytest.mark.real, pytest.mark.asyncio]


@asynccontextmanager
async def connected(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, name: str = "web"
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    for variable, value in hosts.env.items():
        monkeypatch.setenv(variable, value)
    known = str(hosts.environment / "ssh/known_hosts")
    async with asyncio.timeout(60):
        async with asyncssh.connect(
            name, config=[str(hosts.config)], known_hosts=known, agent_path=None
        ) as connection:
            yield connection


async def test_signal_reaches_the_command_and_what_is_in_its_group(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        connected(hosts, monkeypatch) as connection,
        connection.create_process(
            "trap 'echo heard; exit 3' USR1; echo begun; while :; do sleep 0.05; done"
        ) as process,
    ):
        assert await process.stdout.readline() == "begun\n"
        process.send_signal("USR1")
        assert await process.stdout.readline() == "heard\n"
        assert (await process.wait()).returncode == 3


async def test_end_by_a_signal_is_told_by_its_name(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(hosts, monkeypatch) as connection:
        done = await connection.run("kill -TERM $$")
        assert done.exit_signal is not None
        assert done.exit_signal[0] == "TERM"


async def test_terminal_follows_the_size_of_the_window_and_breaks(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "trap 'echo broken; exit 4' INT; stty size; "
        "trap 'stty size' WINCH; echo begun; while :; do sleep 0.05; done"
    )
    async with (
        connected(hosts, monkeypatch) as connection,
        connection.create_process(
            f'bash -c "{script}"', term_type="vt100", term_size=(100, 40)
        ) as process,
    ):
        assert (await process.stdout.readline()).strip() == "40 100"
        assert (await process.stdout.readline()).strip() == "begun"
        process.change_terminal_size(90, 30)
        assert (await process.stdout.readline()).strip() == "30 90"
        process.send_break(500)
        while (line := (await process.stdout.readline()).strip()) != "^Cbroken":
            assert line in ("30 90", "^C"), line
        assert (await process.wait()).returncode == 4


async def test_many_sessions_share_a_connection_at_once(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(hosts, monkeypatch) as connection:
        answers = await asyncio.gather(
            *(connection.run(f"sleep 0.1; echo {number}", check=True) for number in range(9))
        )
    assert [answer.stdout for answer in answers] == [f"{number}\n" for number in range(9)]


async def test_other_subsystems_and_sockets_of_files_are_refused(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(hosts, monkeypatch) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process(subsystem="netconf")
        with pytest.raises(asyncssh.ChannelOpenError, match="refused"):
            await connection.open_unix_connection("/run/any.sock")


async def test_command_of_a_machine_that_ends_meanwhile_is_told(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_carthage.fabric.wire import client

    async with connected(hosts, monkeypatch, "desk") as connection:
        async with connection.create_process("echo begun; exec sleep 60") as process:
            assert await process.stdout.readline() == "begun\n"
            with client.connect(str(hosts.environment / "fabric.sock")) as fabric:
                await asyncio.to_thread(fabric.request, "stop", machine="desk")
                await asyncio.to_thread(fabric.request, "start", machine="desk")
            assert "machine 'desk'" in await process.stderr.read()
        await connection.wait_closed()
