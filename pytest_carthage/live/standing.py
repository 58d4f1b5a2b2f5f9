"""Environments that stand: found by their ledgers, compared with a declaration, taken up."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_carthage.errors import StateError
from pytest_carthage.images.policy import Policy
from pytest_carthage.live import ledger as ledgers
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.live.ledger import Ledger
from pytest_carthage.planning.fingerprint import differences, fingerprint
from pytest_carthage.state import journal
from pytest_carthage.state.entries import from_entry
from pytest_carthage.state.listing import Listed
from pytest_carthage.state.run import Run

if TYPE_CHECKING:
    from pytest_carthage.events import Reporter
    from pytest_carthage.live.resolved import Subscriber
    from pytest_carthage.planning.declaration import Declaration
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.portal import Portal
    from pytest_carthage.providing import Providers

__all__ = ["Standing", "claim"]

_LOCK = "in-use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An environment that stands, claimed by this process."""

    listed: Listed
    #: holds the claim
    lock: int

    @property
    def name(self) -> str:
        """Its name."""
        return self.listed.name

    @property
    def ledger(self) -> Ledger:
        """What is known of it now.

        :raises StateError: it is gone, or of another version.
        """
        return ledgers.read(self.listed.folder)

    def is_of(self, layout: type[Declaration]) -> bool:
        """Whether it was built from a layout class of this name, in this file."""
        ledger = self.ledger
        return (ledger.layout, ledger.file) == (layout.__name__, ledgers.file_of(layout))

    def differences(self, plan: Plan) -> list[str]:
        """What a declaration, as it is planned now, has otherwise; none: it is the same."""
        return differences(self.ledger.declared, fingerprint(plan))

    async def take_up(
        self,
        plan: Plan,
        *,
        providers: Providers,
        portal: Portal,
        reporter: Reporter,
        subscribers: Sequence[Subscriber],
        policy: Policy,
        prologue: Callable[[AsyncLayout], Awaitable[None]] | None,
    ) -> AsyncLayout:
        """Use it, from this process.

        :param plan: as the layout is declared.
        :raises CarthageError: something of it is gone, or does not answer.
        """
        folder = self.listed.folder
        plan, complaints = ledgers.members(folder, self.ledger, plan)
        if complaints:
            raise StateError(f"environment {self.name!r}: {'; '.join(complaints)}")
        entries = journal.read(self.listed.run_folder / "journal.jsonl")
        run = await Run.visit(self.listed.run_folder)
        try:
            environment = await AsyncLayout.attach(
                plan,
                name=self.name,
                run=run,
                folder=folder,
                fabric=await run.fabric(folder),
                providers=providers,
                portal=portal,
                reporter=reporter,
                subscribers=subscribers,
                policy=policy,
                prologue=prologue,
                identities=[
                    from_entry(entry)
                    for entry in journal.outstanding(entries, self.name)
                    if entry["kind"] != "fabric"
                ],
            )
        except BaseException:
            run.close()
            raise
        environment.when_gone(run.close)
        return environment

    def release(self) -> None:
        """Let others use it."""
        os.close(self.lock)


def claim(listed: Listed) -> Standing:
    """Claim an environment for this process; the claim ends with it, however that ends.

    :raises StateError: others use it; or it cannot be used, as it has no ledger.
    """
    if listed.owned:
        raise StateError(
            f"environment {listed.name!r} belongs to process {listed.owner_pid}, whose tests still "
            "run, and ends with them; try: when they are done, with --keep or --keep-on-fail"
        )
    ledgers.read(listed.folder)
    lock = os.open(listed.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        user = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
        os.close(lock)
        raise StateError(
            f"environment {listed.name!r} is used by process {user} now; "
            "try: when that has ended, or another environment"
        ) from None
    os.ftruncate(lock, 0)
    with contextlib.suppress(OSError):
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    return Standing(listed=listed, lock=lock)
