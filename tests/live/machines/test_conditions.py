"""Waiting for what holds, may come to hold, or cannot any more."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

import pytest

from pytest_carthage import (
    Image,
    Layout,
    Machine,
    Network,
    TimeLimitError,
    command,
    file,
    log,
    port,
    testing,
    unit,
)
from pytest_carthage.live.machines import units
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.testing import Answer, Output
from tests.live.conftest import Build

LISTED = """\
nginx.service                enabled  enabled
nginx-debug.service          disabled enabled
postgresql@.service          indirect enabled
ssh.socket                   disabled enabled
"""


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})


class Booting(Layout):
    web = Machine(Image.oci("localhost/none"), init="systemd")


def shown(load: str = "loaded", active: str = "inactive", **more: str) -> str:
    values = {"LoadState": load, "ActiveState": active, "SubState": "dead", "Job": "0", **more}
    return "".join(f"{name}={value}\n" for name, value in values.items())


def web(**answers: Answer) -> Iterator[MachineHandle]:
    known: dict[str, Answer] = {
        "systemctl is-system-running": answers.get("state", "running\n"),
        "systemctl list-unit-files *": LISTED,
        "systemctl list-units *": "",
        "systemctl show *": answers.get("show"),
        "check": answers.get("check"),
    }
    with testing.live(Shop, answers=known) as shop:
        yield shop.web


def waited(machine: MachineHandle, name: str, limit_s: float = 30.0) -> str:
    """What is said of a unit, at once."""
    begin = time.monotonic()
    with pytest.raises(TimeLimitError) as caught:
        machine.wait_for(unit(name), timeout_s=limit_s)
    assert time.monotonic() - begin < max(10.0, limit_s / 2)
    return str(caught.value)


def test_unit_that_is_not_there_is_told_at_once_with_similar_ones() -> None:
    for machine in web(show=shown("not-found")):
        # docs: unit
        with pytest.raises(TimeLimitError, match="no unit ngnix; similar: nginx"):
            machine.wait_for(unit("ngnix"))
        # docs: end
        message = waited(machine, "ngnix")
        assert message.startswith(
            "machine 'web' of layout 'Shop': no unit ngnix; similar: nginx; waited for unit ngnix; "
        )
        assert "no unit frobnicator; waited" in waited(machine, "frobnicator")
        assert "similar: ssh.socket" in waited(machine, "sshd.socket")


@pytest.mark.parametrize("state", ["starting\n", "initializing\n", ""])
def test_unit_may_come_or_be_tried_again_while_systemd_starts(state: str) -> None:
    for show, last in (
        (shown("not-found"), "there is no such unit"),
        (shown(active="failed", SubState="failed"), "failed (failed)"),
    ):
        for machine in web(show=show, state=Output(stdout=state, status=1)):
            message = waited(machine, "x", 0.3)
            assert f"no unit x after 0.3 s (last: {last}, while systemd starts)" in message


@pytest.mark.parametrize(
    ("show", "message"),
    [
        (shown("masked"), "unit x is masked; try: systemctl unmask x"),
        (
            shown("bad-setting"),
            "unit x cannot be loaded (bad-setting); try: pytest-carthage exec web -- systemd",
        ),
        (
            shown(active="failed", SubState="failed", Result="exit-code"),
            "unit x has failed (exit-code); try: pytest-carthage exec web -- journalctl -u x",
        ),
        (
            Output(stderr="System has not been booted with systemd as init system", status=1),
            "System has not been booted with systemd",
        ),
    ],
)
def test_unit_that_cannot_become_active_is_told_at_once(show: Answer, message: str) -> None:
    for machine in web(show=show):
        assert f"machine 'web' of layout 'Shop': {message}" in waited(machine, "x").replace(
            "status 1: ", ""
        )


@pytest.mark.parametrize(
    ("show", "last"),
    [
        (shown(active="activating", SubState="auto-restart"), "activating (auto-restart)"),
        (shown(active="failed", SubState="failed", Job="17"), "failed (failed)"),
        (shown(), "inactive (dead)"),
    ],
)
def test_unit_that_may_become_active_is_waited_for(show: str, last: str) -> None:
    for machine in web(show=show):
        assert f"no unit x after 0.3 s (last: {last})" in waited(machine, "x", 0.3)


def test_machine_that_boots_may_not_have_come_to_systemd_yet() -> None:
    early = Output(stderr="System has not been booted with systemd as init system", status=1)
    with testing.live(Booting, answers={"systemctl show *": early}) as booting:
        assert "no unit x after 0.3 s" in waited(booting.web, "x", 0.3)


def test_unit_that_is_active_is_there() -> None:
    for state in ("active", "reloading"):
        for machine in web(show=shown(active=state)):
            machine.wait_for(unit("x"), timeout_s=5)


def test_state_of_a_unit_is_none_where_nothing_was_said() -> None:
    assert units.State.of("Failed to connect to bus") is None


def test_check_that_hangs_once_has_a_limit_of_its_own() -> None:
    calls: list[float] = []
    end = threading.Event()

    def check(call: object) -> int:
        calls.append(time.monotonic())
        if len(calls) == 1:
            end.wait(30)
        return 0

    for machine in web(check=check):
        machine.wait_for(command("check"), timeout_s=3)
        assert len(calls) == 2
        assert 1.0 < calls[1] - calls[0] < 3.0
    end.set()


def test_condition_of_a_stopped_machine_is_told_at_once() -> None:
    for machine in web():
        machine.stop()
        for condition in (port(80), file("/x"), log("x"), unit("x"), command("true")):
            begin = time.monotonic()
            with pytest.raises(TimeLimitError, match="it is stopped; waited for"):
                machine.wait_for(condition)
            assert time.monotonic() - begin < 10


@pytest.mark.real
def test_condition_of_a_failed_main_process_is_told_at_once(build: Build) -> None:
    class Failing(Layout):
        web = Machine(command="echo no port to be had; sleep 0.3; exit 3")
        db = Machine(command="sleep 1000 & sleep 0.3; exit 3")
        once = Machine(command="sleep 0.1")

    failing = build(Failing)
    for condition in (port(80), file("/none"), log("ready")):
        begin = time.monotonic()
        with pytest.raises(TimeLimitError) as caught:
            failing.web.wait_for(condition)
        assert time.monotonic() - begin < 20
        message = str(caught.value)
        assert re.search(
            r"main process ended at \S+ with status 3 .*, and nothing else runs", message
        )
        assert "it printed last:\n  no port to be had\n" in message
    # something else may still bring it about
    with pytest.raises(TimeLimitError, match=r"no port 80 after 1 s .*main process ended at"):
        failing.db.wait_for(port(80), timeout_s=1)
    with pytest.raises(TimeLimitError, match=r"no file /none after 1 s .*ended at .* status 0"):
        failing.once.wait_for(file("/none"), timeout_s=1)


@pytest.mark.real
def test_unit_of_a_machine_without_systemd_is_told_at_once(build: Build) -> None:
    machine = build(Shop).web
    assert "no unit" in waited(machine, "nginx") or units.NOT_BOOTED in waited(machine, "nginx")
