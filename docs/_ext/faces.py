"""What the reference shows of handles: what a test uses, as a test that waits sees it.

Handles are given, never made, so their constructors are left out. So are operations that the
package has for itself. What returns an opening for coroutines returns, in the face that waits,
what is open.
"""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: page whose classes are given to tests
PAGE = "reference/handles"
#: members of handles that the package has for itself
INTERNAL = frozenset(
    """
    ansible_environment ask_for_addresses bring built channel detail ended follow freezer
    furnish give_addresses_back has_crashed inputs is_leaving keys lent locale mirror netlink
    note of offline package_cache part_of perform planned portal powered printed require
    resolved scope surroundings switched_on sync tell_hosts tell_settings undo wait_until_ready
    who within write_names write_names_again
    """.split()
)
_OPENING = re.compile(r"^Opening\[\w+, (\w+)\]$")
_BLOCK = re.compile(r"^AsyncIterator\[(.+)\]$")


def returned(annotation: str) -> str:
    """What a caller that waits gets where coroutines get this."""
    if annotation == "Fault":
        return "Disturbance"
    annotation = _OPENING.sub(r"\1", annotation)
    return _BLOCK.sub(r"AbstractContextManager[\1]", annotation)


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    return True if app.env.docname == PAGE and name in INTERNAL else None


def _signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str | None, back: str | None
) -> tuple[str | None, str | None] | None:
    # what is made anew for each object has no literal, and its own notation cannot be read
    given = given and given.replace("<factory>", "...")
    if app.env.docname != PAGE:
        return given, back
    if what == "class" and not is_dataclass(obj) and not issubclass(obj, dict):
        return "", None
    return given, back and returned(back)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True}
