"""What a reserved host is operated by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels.agent import execute
from pytest_carthage.channels.scripts import last_line

if TYPE_CHECKING:
    from pytest_carthage.provider import Channel, Identity

__all__ = ["SshMachine"]

#: lines of a host's journal that are taken
_MOST_LINES = 20_000
_JOURNAL_S = 30.0


@dataclass(slots=True)
class SshMachine:
    """A host that is reserved."""

    identity: Identity
    channel: Channel
    #: what it is: system, kernel, user, python
    facts: Mapping[str, Any]
    #: since when it is reserved, by this host's clock
    began_s: float

    async def logs(self) -> str:
        """What its journal has since it was reserved, where it keeps one."""
        script = (
            "command -v journalctl > /dev/null || { echo 'it keeps no journal' >&2; exit 3; }; "
            f'exec journalctl --quiet --no-pager --lines={_MOST_LINES} --since="@$1"'
        )
        status, out, err = await execute(
            self.channel,
            ["/bin/sh", "-c", script, "sh", f"{self.began_s:.0f}"],
            user=None,
            cwd=None,
            env={},
            input=None,
            timeout_s=_JOURNAL_S,
        )
        if status:
            return f"(its journal cannot be read: {last_line(err)})\n"
        return out.decode(errors="replace")
