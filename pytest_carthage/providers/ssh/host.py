"""A reserved host: whose it is, by which way it is reached, and how it is given back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import getpass
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.channels.scripts import last_line, shell
from pytest_carthage.channels.ssh.becoming import becoming
from pytest_carthage.channels.ssh.connection import connected
from pytest_carthage.channels.ssh.lease import BREAK, LOOK, MARK, RELEASE, Lease, mark, state_of
from pytest_carthage.channels.ssh.session import carried_out
from pytest_carthage.channels.ssh.way import Secrets, Way
from pytest_carthage.errors import FabricError, RestoreError
from pytest_carthage.model.ssh import Here, Ssh

if TYPE_CHECKING:
    import asyncssh

    from pytest_carthage.provider import Identity

__all__ = ["Reserved", "way_of"]

#: runs a command of a host's; returns its status and what it printed
Runs = Callable[[Sequence[str]], Awaitable[tuple[int, bytes, bytes]]]

#: $1: step, $2: seconds; nothing of it stays there that took longer
_STEP = """\
if command -v timeout > /dev/null; then exec timeout -k 1 "$2" /bin/sh -c "$1"; fi
exec /bin/sh -c "$1"
"""
#: how long after its time a step ends there at the latest
_LATE_S = 1.0
#: what reaching a host and taking its lease away may take, beside the steps
_BESIDE_S = 40.0


def _step_there(command: str, left_s: float) -> Sequence[str]:
    """A step of the host's, which ends there by itself if nobody here could end it in time."""
    return shell(_STEP, command, f"{left_s + _LATE_S:.1f}")


def way_of(on: Ssh) -> Way:
    """The way that an author has declared."""
    return Way(
        host=on.host,
        user=on.user,
        port=on.port,
        jump=on.hops,
        proxy_command=on.proxy_command,
        config=None if on.config is None else (str(on.config),),
        identity=None if on.identity is None else str(on.identity),
        host_key=None if on.host_key is None else str(on.host_key),
        become=on.become,
        become_method=on.become_method,
        password_env=on.password_env,
        passphrase_env=on.passphrase_env,
        become_password_env=on.become_password_env,
    )


def _user() -> str:
    """Who starts this, for a person."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # he has no name here
        return str(os.getuid())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """A host that is one run's, as the journal knows of it: no secret is in it."""

    way: Way
    #: of its lease
    lease: str
    owner: str
    #: steps that restore it: (where, command)
    on_return: Sequence[tuple[str, str]] = ()
    #: seconds that they may take, all together
    return_timeout_s: float = 60.0
    #: where steps of this host work
    folder: str = "/"

    @classmethod
    def of(cls, on: Ssh, identity: Identity) -> Reserved:
        """What a machine of a run reserves."""
        steps = tuple(
            ("here", step.command) if isinstance(step, Here) else ("there", step)
            for step in on.steps
        )
        return cls(
            way=way_of(on),
            lease=f"{identity.run}/{identity.environment}/{identity.name}",
            owner=f"{_user()} for {identity.environment} ({identity.name})",
            on_return=steps,
            return_timeout_s=on.return_timeout_s,
            folder=str(Path.cwd()),
        )

    @classmethod
    def from_detail(cls, text: str) -> Reserved:
        """The one that :meth:`as_detail` has written down."""
        values = json.loads(text)
        return cls(
            way=Way.from_record(values["way"]),
            lease=values["lease"],
            owner=values["owner"],
            folder=values["folder"],
            return_timeout_s=values["return_timeout_s"],
            on_return=tuple((where, command) for where, command in values["on_return"]),
        )

    def as_detail(self) -> str:
        """All that is needed to give it back."""
        way = dataclasses.replace(self.way, surroundings={}).as_record()
        return json.dumps(
            {
                "way": way,
                "lease": self.lease,
                "owner": self.owner,
                "folder": self.folder,
                "return_timeout_s": self.return_timeout_s,
                "on_return": [list(step) for step in self.on_return],
            }
        )

    @property
    def limit_s(self) -> float:
        """The longest that giving it back may take."""
        return self.return_timeout_s + _BESIDE_S

    async def give_back(self) -> None:
        """Restore it and take the lease away; one that is another's by now is left alone.

        :raises RestoreError: a step failed, and it is marked.
        :raises FabricError: it cannot be reached.
        """
        secrets = Secrets.of(self.way, os.environ)
        async with connected(self.way, secrets) as connection:
            held = await self._ask(connection, secrets, LOOK)
            if held is None or held.record.get("id") != self.lease or held.mark:
                return  # it was given back, marked, or broken
            failure = await self.restore(partial(self._run, connection, secrets))
            if failure:
                try:
                    await self._mark(connection, secrets, failure)
                except FabricError as error:
                    raise FabricError(
                        f"ssh {self.way}: {failure}, and it cannot be marked: {error}"
                    ) from error
                raise RestoreError(
                    f"ssh {self.way}: {failure}; the host is marked, and the next run says so; "
                    "try: restore it by hand, then pytest-carthage leases LAYOUT --break "
                    f"{self.lease.rpartition('/')[2]}"
                )
            await self._ask(connection, secrets, RELEASE, self.lease)

    async def _mark(
        self, connection: asyncssh.SSHClientConnection, secrets: Secrets, why: str
    ) -> None:
        record = mark(self.lease, self.owner, why)
        await self._ask(connection, secrets, MARK, self.lease, record)

    async def look(self) -> Lease | None:
        """What lies there.

        :raises FabricError: it cannot be reached.
        """
        secrets = Secrets.of(self.way, os.environ)
        async with connected(self.way, secrets) as connection:
            return await self._ask(connection, secrets, LOOK)

    async def release(self, held: Lease) -> None:
        """Take away what lies there, whoever's it is.

        :raises FabricError: it cannot be reached, or something else lies there by now.
        """
        secrets = Secrets.of(self.way, os.environ)
        async with connected(self.way, secrets) as connection:
            left = await self._ask(connection, secrets, BREAK, held.text)
            if left is not None:
                raise FabricError(f"ssh {self.way}: it is {left.owner}'s by now; try: again")

    async def _ask(
        self, connection: asyncssh.SSHClientConnection, secrets: Secrets, *words: str
    ) -> Lease | None:
        status, out, err = await self._run(connection, secrets, shell(*words))
        if status:
            raise FabricError(f"ssh {self.way}: its lease cannot be read: {last_line(err)}")
        return state_of(out.decode(errors="replace"))

    async def restore(self, there: Runs) -> str:
        """Do the steps that restore it; returns why one failed, or nothing.

        :param there: runs a command of the host's.
        """
        deadline = clock.monotonic_s() + self.return_timeout_s
        for where, command in self.on_return:
            left_s = max(deadline - clock.monotonic_s(), 0.0)
            try:
                async with asyncio.timeout(left_s):
                    if where == "there":
                        status, out, err = await there(_step_there(command, left_s))
                        said = last_line(err) or last_line(out)
                    else:
                        status, said = await self._step_here(command)
            except TimeoutError:
                limit = f"return_timeout_s={self.return_timeout_s:g}"
                return f"on_return step {command!r} was ended: {limit} is over"
            if status:
                said = said or "it printed nothing"
                return f"on_return step {command!r} ended with status {status}: {said}"
        return ""

    async def _step_here(self, command: str) -> tuple[int, str]:
        """Run a command of this host that restores it; returns its status and its last line."""
        process = await asyncio.create_subprocess_shell(
            command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "CARTHAGE_HOST": self.way.host},
            cwd=self.folder,
            start_new_session=True,
        )
        try:
            out, _ = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode or 0, last_line(out)

    async def _run(
        self, connection: asyncssh.SSHClientConnection, secrets: Secrets, argv: Sequence[str]
    ) -> tuple[int, bytes, bytes]:
        import asyncssh

        try:
            return await carried_out(connection, becoming(self.way, secrets), argv)
        except (OSError, asyncssh.Error) as error:
            raise FabricError(f"ssh {self.way}: the connection was lost: {error}") from error
