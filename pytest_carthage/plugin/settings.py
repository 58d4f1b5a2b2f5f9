"""What a person asked for, by options and in the ini file: read and checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_carthage.reference import names
from pytest_carthage.reference.durations import duration_s

__all__ = ["Settings", "settings_of"]

_KEEP_FOR = "8h"
_PCAP_MIB = "32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of this session, read and checked."""

    #: as given: ``PATH.py:Class``, ``dotted.name.Class`` or a registered name
    layouts: tuple[str, ...]
    #: target for machines that do not choose one; None: the layout's own
    target: str | None
    #: the run's name; the same in all workers of a session
    run: str
    #: whether a person chose the run's name
    named: bool
    keep_on_fail: bool
    keep: bool
    keep_for_s: float
    #: whether a person has said how long, on the command line
    keeps_for: bool
    #: where failure bundles go; None: a folder of this run in pytest's cache
    artifacts: Path | None
    #: fail where a test would be skipped since this host lacks something
    strict: bool
    #: builds of images may fetch nothing
    offline: bool
    #: locks that what is built must be like; none: the one beside each layout; None: no lock
    locked: tuple[str, ...] | None
    #: networks that are recorded, or ``all``; none: no recording
    pcap: tuple[str, ...]
    #: what a recording holds of each network
    pcap_mib: int
    #: environments to use instead of building; none: layouts are built
    use: tuple[str, ...]
    #: stages to run again in them, or ``all``
    again: tuple[str, ...]
    #: tell what of Ansible's code was reached
    iac_coverage: bool
    #: and write it there, as JSON
    iac_coverage_file: Path | None


SETTINGS = pytest.StashKey[Settings]()


def _locked(config: pytest.Config) -> tuple[str, ...] | None:
    given: list[str] | None = config.option.carthage_locked
    if given is None:
        return () if config.getini("carthage_locked") else None
    for name in given:
        # pytest --carthage-locked tests: the next argument was taken for the option's
        is_test = "::" in name or name.endswith(".py")
        if name and (is_test or (config.invocation_params.dir / name).is_dir()):
            raise pytest.UsageError(
                f"--carthage-locked {name}: that is no lock; "
                f"try: {name} --carthage-locked, or --carthage-locked=FILE"
            )
    return tuple(name for name in given if name)


def _pcap(config: pytest.Config) -> tuple[str, ...]:
    text = config.option.carthage_pcap or config.getini("carthage_pcap") or ""
    networks = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in networks:
        # pytest --carthage-pcap tests: the next argument was taken for the option's
        if "::" in name or "/" in name or name.endswith(".py"):
            raise pytest.UsageError(
                f"--carthage-pcap {name}: that is a path, not a network; "
                f"try: --carthage-pcap=all {name}"
            )
    return networks


def _iac_coverage(config: pytest.Config) -> tuple[bool, Path | None]:
    given: str | None = config.option.carthage_iac_coverage
    base = config.invocation_params.dir
    if given is None:
        given = config.getini("carthage_iac_coverage")
        base = (config.inipath or config.rootpath / "ini").parent
        if given in ("", "false"):
            return False, None
        if given == "true":
            return True, None
    # pytest --carthage-iac-coverage tests: the next argument was taken for the option's
    elif "::" in given or given.endswith(".py") or (given and (base / given).is_dir()):
        raise pytest.UsageError(
            f"--carthage-iac-coverage {given}: that is no file to write; "
            f"try: {given} --carthage-iac-coverage, or --carthage-iac-coverage=FILE.json"
        )
    return True, base / given if given else None


def _again(option: argparse.Namespace) -> tuple[str, ...]:
    if option.carthage_again and not option.carthage_use:
        raise pytest.UsageError(
            f"--carthage-again {option.carthage_again[0]}: in a new environment every stage runs; "
            "try: with --carthage-use NAME"
        )
    return tuple(option.carthage_again)


def _pcap_mib(config: pytest.Config) -> int:
    text = config.getini("carthage_pcap_mib") or _PCAP_MIB
    if not (text.isascii() and text.isdigit() and int(text)):
        raise pytest.UsageError(f"carthage_pcap_mib: {text!r} is no number of MiB from 1 on")
    return int(text)


def _read(config: pytest.Config) -> Settings:
    option = config.option
    name = option.carthage_name
    if name is not None and (complaint := names.complaint(name)):
        raise pytest.UsageError(f"--carthage-name={name}: {complaint}")
    keep_for = option.keep_for or config.getini("carthage_keep_for") or _KEEP_FOR
    try:
        keep_for_s = duration_s(keep_for)
    except ValueError as error:
        where = "--keep-for" if option.keep_for else "carthage_keep_for"
        raise pytest.UsageError(f"{where}: {error}") from error
    artifacts: Path | None = None
    if option.carthage_artifacts:
        artifacts = config.invocation_params.dir / option.carthage_artifacts
    elif config.getini("carthage_artifacts"):
        artifacts = (config.inipath or config.rootpath / "ini").parent / config.getini(
            "carthage_artifacts"
        )
    iac_coverage, iac_coverage_file = _iac_coverage(config)
    shared: dict[str, str] = getattr(config, "workerinput", {})
    return Settings(
        layouts=tuple(option.carthage_layout or config.getini("carthage_layout")),
        target=option.carthage_target or config.getini("carthage_target") or None,
        run=shared.get("carthage_run") or name or names.new(),
        named=name is not None,
        keep_on_fail=option.keep_on_fail,
        keep=option.keep,
        keep_for_s=keep_for_s,
        keeps_for=option.keep_for is not None,
        artifacts=artifacts,
        strict=option.carthage_strict or config.getini("carthage_strict"),
        offline=option.carthage_offline or config.getini("carthage_offline"),
        locked=_locked(config),
        pcap=_pcap(config),
        pcap_mib=_pcap_mib(config),
        use=tuple(option.carthage_use),
        again=_again(option),
        iac_coverage=iac_coverage,
        iac_coverage_file=iac_coverage_file,
    )


def settings_of(config: pytest.Config) -> Settings:
    """Return the settings of a session, reading them at the first call.

    :raises pytest.UsageError: an option has a value that makes no sense.
    """
    if SETTINGS not in config.stash:
        config.stash[SETTINGS] = _read(config)
    return config.stash[SETTINGS]
