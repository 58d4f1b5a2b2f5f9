"""Text of ``/etc/hosts``: some lines are ours, and all others are their authors'."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pytest_carthage.handles.lines import lines_of

_BEGIN = "# machines of this layout (pytest-carthage)"
_END = "# end of the machines of this layout"
_LOOPBACK = ("127.", "::1 ")


def initial(hosts: str) -> str:
    """The text that a machine begins with: who there is, in a marked block.

    :param hosts: lines of all that have a name, those of the machine itself among them.
    """
    lines = lines_of(hosts)
    own = [line for line in lines if line.startswith(_LOOPBACK)]
    others = [line for line in lines if line not in own]
    return "".join(f"{line}\n" for line in [*own, _BEGIN, *others, _END])


def merged(text: str, before: Collection[str], now: Sequence[str]) -> str:
    """A text in which ``now`` has taken the place of ``before``, and all else is as it was.

    A line of ours that somebody has changed or removed stays so; a new one is put into the block,
    or at the end where there is none any more.
    """
    stale = set(before) - set(now)
    # as they are: a line of others may hold whatever it likes but a newline
    own = text.removesuffix("\n").split("\n") if text else []
    lines = [line for line in own if line not in stale]
    new = [line for line in now if line not in before and line not in lines]
    if new:
        at = lines.index(_END) if _END in lines else len(lines)
        lines[at:at] = new
    return "".join(f"{line}\n" for line in lines)
