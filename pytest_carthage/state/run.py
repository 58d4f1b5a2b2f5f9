"""A run as its clients see it: joining or starting its supervisor, and what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import FabricError, StateError
from pytest_carthage.fabric.host import file_names, folders
from pytest_carthage.fabric.wire import channel
from pytest_carthage.state import journal, places, possession, starting
from pytest_carthage.state.cleaning import JOURNAL, Cleaning
from pytest_carthage.state.entries import as_entry
from pytest_carthage.state.listing import refuse_leftovers
from pytest_carthage.state.sweeping import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_carthage.fabric.wire.channel import AsyncChannel
    from pytest_carthage.provider import Identity

__all__ = ["Run", "new_name"]

#: the longest that a supervisor may take to answer
_ANSWER_S = 20.0
#: and to end, once nobody is left
_LEAVE_S = 10.0
#: and to end a fabric, after all that outlives it
_DESTROY_S = LIMIT_S + 60.0


def new_name() -> str:
    """A run name that nobody else has, short enough to type."""
    return "r" + secrets.token_hex(3)


class Run:
    """A client's connection to the supervisor of one run."""

    def __init__(self, name: str, folder: Path, supervisor: AsyncChannel) -> None:
        self.name = name
        #: what tells it from all other runs, also those of the same name
        self.id = places.run_id(folder)
        self.folder = folder
        self._supervisor = supervisor
        #: by which others know that somebody is here, whatever becomes of the supervisor
        self._use = possession.use(folder)

    @classmethod
    async def join(cls, name: str, *, token: str | None = None) -> Run:
        """Connect to the supervisor of a run; start it where there is none.

        What a dead run of this name has left is removed, unless that was tried before.

        :param token: what all processes of one run have in common; a run of the same name
            with another token is somebody else's. By default this process is the whole run.
        :raises StateError: it cannot be started, the name is taken, the folder is not ours.
        """
        token = token or secrets.token_hex(8)
        if not folders.is_name(name):
            raise StateError(f"a run cannot be called {name!r:.80}")
        try:
            root = places.runs_root()
            if lack := file_names.lack_of_utf8(root, "the folder of runs (CARTHAGE_STATE)"):
                raise StateError(lack)
            if (run := await cls._enter_living(root, name, token)) is not None:
                return run
            for folder in places.run_folders(root, name):
                await _clean(folder)
            async with starting.alone(root) as gate:
                if (run := await cls._enter_living(root, name, token)) is not None:
                    return run
                folder = places.new_run_folder(root, name)
                await starting.start_supervisor(folder, gate)
                run = await cls._enter(name, folder, token)
        except OSError as error:
            full = places.lack_of_space()
            raise StateError(full or f"no place for the state of runs: {error}") from error
        if run is None:
            raise StateError(f"run {name!r}: its supervisor ended at once; see {folder}")
        return run

    @classmethod
    async def visit(cls, folder: Path) -> Run:
        """Connect to the supervisor of somebody else's run, for what stands there.

        :raises StateError: it does not answer.
        """
        name = places.run_name(folder)
        try:
            supervisor = await channel.connect(
                str(folder / "supervisor.sock"), f"supervisor of run {name!r}"
            )
        except FabricError as error:
            raise StateError(f"run {name!r}: {error}; try: pytest-carthage gc") from error
        return cls(name, folder, supervisor)

    async def fabric(self, environment: Path) -> AsyncChannel:
        """A channel to the fabric of an environment that stands.

        :param environment: its folder.
        :raises FabricError: it is gone.
        """
        return await channel.connect(
            str(environment / "fabric.sock"), f"fabric of {environment.name!r}"
        )

    @classmethod
    async def _enter_living(cls, root: Path, name: str, token: str) -> Run | None:
        for folder in places.run_folders(root, name):
            if possession.is_alive(folder):
                run = await cls._enter(name, folder, token)
                if run is not None:
                    return run
        return None

    @classmethod
    async def _enter(cls, name: str, folder: Path, token: str) -> Run | None:
        """Connect to the supervisor in a folder; None: it is ending, or not there any more.

        :raises StateError: it is somebody else's, or does not answer.
        """
        try:
            supervisor = await channel.connect(
                str(folder / "supervisor.sock"), f"supervisor of run {name!r}"
            )
        except FabricError:
            return None
        try:
            run = cls(name, folder, supervisor)
        except OSError:  # its folder has just gone
            supervisor.close()
            return None
        try:
            await run._ask("hello", token=token, pid=os.getpid(), name=name)
        except FabricError as error:
            is_ending = supervisor.closed
            run.close()
            if is_ending:
                return None
            raise StateError(str(error)) from None
        except BaseException:
            run.close()
            raise
        return run

    async def _ask(self, op: str, /, limit_s: float = _ANSWER_S, **fields: Any) -> dict[str, Any]:
        """Ask the supervisor.

        :raises FabricError: it refused, or is gone.
        :raises StateError: it does not answer.
        """
        try:
            async with asyncio.timeout(limit_s):
                reply, _ = await self._supervisor.request(op, **fields)
        except TimeoutError as error:
            raise StateError(
                f"run {self.name!r}: its supervisor (process {possession.owner(self.folder)}) has "
                f"not answered {op!r} for {limit_s:g} s; log: {self.folder / 'supervisor.log'}; "
                "try: end that process, then pytest-carthage gc"
            ) from error
        return reply

    async def environment(
        self, name: str, description: Mapping[str, object], *, unprivileged: bool
    ) -> tuple[Path, AsyncChannel]:
        """Begin an environment: its folder, and a channel to its fabric.

        :raises FabricError: the kernel refused the namespaces, or the name is taken.
        """
        reply = await self._ask(
            "environment",
            name=name,
            description={**description, "run": self.name, "owner_pid": os.getpid()},
            unprivileged=unprivileged,
        )
        folder = Path(reply["folder"])
        fabric = await channel.connect(str(folder / "fabric.sock"), f"fabric of {name!r}")
        return folder, fabric

    async def deputy(
        self,
        environment: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        control: int,
    ) -> None:
        """Start a process of an environment outside of its fabric, which answers for a machine.

        :param control: descriptor that brings its clients; the process gets a copy, and its
            number in ``CARTHAGE_CONTROL``.
        """
        await self._ask(
            "deputy",
            fds=(control,),
            environment=environment,
            argv=list(argv),
            env=dict(env),
            log=str(log),
        )

    async def intend(self, identity: Identity) -> None:
        """Write to the journal what is about to exist.

        :raises FabricError: its environment is being destroyed, or there is no room for it.
        """
        await self._ask("intent", identity=as_entry(identity))

    async def destroyed(self, identity: Identity) -> None:
        """Write to the journal that something is gone."""
        await self._ask("destroyed", identity=as_entry(identity))

    async def describe(self, environment: str, description: Mapping[str, object]) -> None:
        """Add to what is known of an environment on disk."""
        await self._ask("describe", environment=environment, description=dict(description))

    async def keep(self, environment: str, *, for_s: float | None) -> None:
        """Have an environment stay when its owner ends; for ever where ``for_s`` is None.

        :raises FabricError: it is not kept, and still its owner's.
        """
        await self._ask("keep", environment=environment, for_s=for_s)

    async def destroy(self, environment: str) -> None:
        """Destroy an environment with all that is in it, and what outlives it.

        :raises StateError: something could not be destroyed; the journal keeps it.
        """
        reply = await self._ask("destroy", _DESTROY_S, environment=environment)
        refuse_leftovers(environment, reply["failed"])

    async def leave(self) -> None:
        """Leave the run, as with :meth:`close`; who is the last one waits for its end.

        What a supervisor has left that was killed is removed here.
        """
        with contextlib.suppress(FabricError, StateError):
            # to the last one it does not answer, but ends
            await self._ask("leave", _LEAVE_S)
        is_over = self._supervisor.closed
        self.close()
        if is_over and self.folder.exists() and not possession.is_used(self.folder):
            await _clean(self.folder)

    def close(self) -> None:
        """Leave the run: environments of this client that are not kept are destroyed."""
        self._supervisor.close()
        if self._use >= 0:
            os.close(self._use)
            self._use = -1


async def _clean(folder: Path) -> None:
    """Clean up after a dead run; what could not be destroyed before is left to ``gc``."""
    entries = journal.read(folder / JOURNAL)
    if any(journal.failures(entries)):
        return
    cleaning = Cleaning(folder)
    try:
        await asyncio.to_thread(cleaning.run)
    except asyncio.CancelledError:
        cleaning.stop()
        raise
