"""What a reserved host is operated by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels.agent import execute
from pytest_carthage.channels.scripts import last_line

if TYPE_CHECKING:
    from pytest_carthage.provider import Channel, End, Identity
    from pytest_carthage.providers.ssh.answering import Answering

__all__ = ["SshMachine", "journal"]

#: lines of a host's journal that are taken
_MOST_LINES = 20_000
_JOURNAL_S = 30.0


#: $1: since when, $2: lines; then options
_JOURNAL = """\
command -v journalctl > /dev/null || {
    echo "this host keeps no journal: there is no journalctl" >&2; exit 3; }
since=$1 lines=$2; shift 2
exec journalctl --quiet --no-pager --lines="$lines" --since="@$since" "$@"
"""


def journal(since_s: float, *, lines: int | None, follow: bool = False) -> list[str]:
    """The command that prints a host's journal since then, or says that it keeps none.

    :param lines: the last ones; None: all.
    """
    words = [f"{since_s:.0f}", "all" if lines is None else str(lines)]
    return ["/bin/sh", "-c", _JOURNAL, "sh", *words, *(["--follow"] if follow else [])]


@dataclass(slots=True)
class SshMachine:
    """A host that is reserved."""

    identity: Identity
    answering: Answering
    #: what it is: system, kernel, user, python
    facts: Mapping[str, Any]

    @property
    def channel(self) -> Channel:
        """The connection to who answers for it."""
        return self.answering.channel

    @channel.setter
    def channel(self, channel: Channel) -> None:
        self.answering.channel = channel

    async def ended(self) -> End:
        """Return when who answers for it has ended, and is to have a successor."""
        return await self.answering.ended()

    async def back(self) -> None:
        """Return when a successor answers.

        :raises FabricError: it does not come to the host.
        """
        await self.answering.succeed()

    async def logs(self) -> str:
        """What its journal has since it was reserved, where it keeps one."""
        status, out, err = await execute(
            self.channel,
            journal(float(dict(self.identity.detail)["began_s"]), lines=_MOST_LINES),
            user=None,
            cwd=None,
            env={},
            input=None,
            timeout_s=_JOURNAL_S,
        )
        if status:
            return f"(its journal cannot be read: {last_line(err)})\n"
        return out.decode(errors="replace")
