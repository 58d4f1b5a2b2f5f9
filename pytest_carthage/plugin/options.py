"""What a person can ask for on pytest's command line, and in its ini file.

Read at every start of pytest: what the answers mean is in :mod:`.settings`, which is imported once
somebody has asked.
"""

from __future__ import annotations

from typing import Literal

import pytest

__all__ = ["COVERAGE", "SESSION", "add_options", "are_given"]

#: name under which the session's own plugin is registered once a layout is used
SESSION = "carthage-session"
#: and that of the plugin that is there when coverage of Ansible's code was asked for
COVERAGE = "carthage-iac-coverage"


#: ini value to its help and kind; an absent one is empty text, an empty list or False
_INI: dict[str, tuple[str, Literal["linelist", "bool", "string"]]] = {
    "carthage_layout": ("layouts for the `layout` fixture, one per line", "linelist"),
    "carthage_target": ("default of --carthage-target", "string"),
    "carthage_keep_for": ("default of --keep-for", "string"),
    "carthage_artifacts": ("default of --carthage-artifacts (from the ini's folder)", "string"),
    "carthage_strict": ("as --carthage-strict", "bool"),
    "carthage_locked": ("as --carthage-locked", "bool"),
    "carthage_offline": ("as --carthage-offline", "bool"),
    "carthage_pcap": ("default of --carthage-pcap", "string"),
    "carthage_iac_coverage": ("default of --carthage-iac-coverage: true, or a file", "string"),
    "carthage_pcap_mib": ("what --carthage-pcap holds of each network, in MiB (32)", "string"),
}
_DESTINATIONS = (
    "carthage_again",
    "carthage_artifacts",
    "carthage_iac_coverage",
    "carthage_layout",
    "carthage_locked",
    "carthage_name",
    "carthage_offline",
    "carthage_pcap",
    "carthage_strict",
    "carthage_target",
    "carthage_use",
    "keep",
    "keep_for",
    "keep_on_fail",
)


def add_options(parser: pytest.Parser) -> None:
    """Add the options, and the ini values that stand in for them."""
    group = parser.getgroup("carthage", "layouts of machines (pytest-carthage)")
    group.addoption(
        "--carthage-layout",
        action="append",
        default=[],
        metavar="LAYOUT",
        help="layout that the `layout` fixture yields: PATH.py:Class, dotted.name.Class or a "
        "registered name; given several times, tests run once with each",
    )
    group.addoption(
        "--carthage-target",
        metavar="TARGET",
        help="where machines run that do not say so themselves",
    )
    group.addoption(
        "--carthage-name",
        metavar="NAME",
        help="name of this run, the first part of its environments' names (default: a new one)",
    )
    group.addoption(
        "--carthage-use",
        action="append",
        default=[],
        metavar="NAME",
        help="use environments that stand (kept, or of `pytest-carthage up`) instead of building: "
        "one by its name, or all of a run; they stay",
    )
    group.addoption(
        "--carthage-again",
        action="append",
        default=[],
        metavar="STAGE|all",
        help="with --carthage-use: run this stage, though it has run there already",
    )
    group.addoption(
        "--keep-on-fail",
        action="store_true",
        help="leave a layout up after the session when a test that used it failed",
    )
    group.addoption("--keep", action="store_true", help="leave every layout up after the session")
    group.addoption(
        "--keep-for",
        metavar="DURATION",
        help="how long a kept layout stays, as in 90m, 8h (default) or 2d",
    )
    group.addoption(
        "--carthage-artifacts",
        metavar="DIR",
        help="folder for logs and observations of failed tests (default: in pytest's cache)",
    )
    group.addoption(
        "--carthage-strict",
        action="store_true",
        help="fail, rather than skip, where this host lacks what a layout needs",
    )
    group.addoption(
        "--carthage-locked",
        action="append",
        nargs="?",
        const="",
        metavar="FILE",
        help="stop where what is built would differ from a lock (pytest-carthage lock); alone: "
        "from carthage.lock beside the layout or its tests",
    )
    group.addoption(
        "--carthage-offline",
        action="store_true",
        help="fetch nothing to build images; fail with what would have to be",
    )
    group.addoption(
        "--carthage-pcap",
        nargs="?",
        const="all",
        metavar="all|NETWORK,...",
        help="record the packets of these networks (alone: of all); the bundle of a failed test "
        "holds its own, as pcapng",
    )
    group.addoption(
        "--carthage-iac-coverage",
        nargs="?",
        const="",
        metavar="FILE",
        help="tell at the end which tasks, handlers, templates and branches of when: no run of "
        "Ansible has reached; with FILE, write it there as JSON, too",
    )
    for name, (text, kind) in _INI.items():
        parser.addini(name, text, kind)


def are_given(config: pytest.Config) -> bool:
    """Whether anything of ours was asked for, on the command line or in the ini file."""
    option = vars(config.option)
    return any(option[name] not in (None, False, []) for name in _DESTINATIONS) or any(
        config.getini(name) for name in _INI
    )
