"""Programs of the host that run in a fabric: where they are looked for, and what they are for."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from pytest_carthage.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

#: where programs of the host are looked for, whatever the user's own PATH is
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: asks for the addresses of links with ``dhcp=True``, on every target
DHCP_CLIENT = {"dhclient": "isc-dhcp-client"}


def missing(who: str, programs: Mapping[str, str], purpose: str) -> list[Problem]:
    """List those that are not there.

    :param programs: name of each to the Debian package that has it.
    :param purpose: ends the sentence "no dhclient, which ...".
    """
    return [
        Problem(
            who=who,
            what=f"no {program}, which {purpose}",
            remedy=f"apt-get install {package}",
            packages=(package,),
            is_partial=True,
        )
        for program, package in programs.items()
        if shutil.which(program, path=PATH) is None
    ]


def missing_dhcp_client(who: str) -> list[Problem]:
    """The client for links that ask by DHCP, if it is not there."""
    return missing(who, DHCP_CLIENT, "asks for the addresses of links with dhcp=True")
