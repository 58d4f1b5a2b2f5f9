"""Main processes that end by themselves, and are started again or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from pytest_carthage import Layout, Machine, exited
from pytest_carthage.events import Recorder
from pytest_carthage.live.machines.machine import MachineHandle
from tests.contract.conftest import Target
from tests.providers.conftest import DEBIAN
from tests.support.layouts import building

#: says that it has begun, and ends with the status that somebody writes into a file
MAIN = (
    "echo begun; until test -s /srv/end; do sleep 0.02; done;"
    " read status < /srv/end; rm /srv/end; exit $status"
)
#: fails as often as somebody writes into a file
FAILING = (
    "echo begun; until test -s /srv/left; do sleep 0.02; done; read left < /srv/left;"
    " rm /srv/left; test $left -gt 1 && echo $((left - 1)) > /srv/left; exit 7"
)
#: fails once
LATE = "echo begun; test -e /srv/tried || { touch /srv/tried; exit 1; }; exec sleep 1000"
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def recorder(target: Target) -> Recorder:
    """Of this target's machines alone."""
    return Recorder()


@pytest.fixture(scope="module")
def live(target: Target, recorder: Recorder) -> Iterator[Layout]:
    if not target.provider.traits.restarts or target.init == "systemd":
        pytest.skip(f"target {target.kind!r}: no main process that it starts again")
    image = DEBIAN if target.has_image else None

    def machine(restart: str, command: str = MAIN) -> Machine:
        return Machine(image, on=target.kind, command=command, restart=restart)

    layout = Layout.of(
        "Restarted",
        {
            "no": machine("no"),
            "always": machine("always"),
            "failing": machine("on-failure"),
            "once": machine("on-failure:1"),
            "loop": machine("always", FAILING),
            "late": machine("on-failure", LATE),
        },
    )
    providers = {target.kind: lambda: target.provider}
    with building(target.portal, providers, recorder=recorder) as build:
        yield build(layout)


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def begun(machine: MachineHandle) -> int:
    """How often its main process has begun: its log is there when it is off, too."""
    return machine.logs().count("begun\n")


def end(machine: MachineHandle, status: int) -> None:
    """Have its main process end."""
    machine.write_text("/srv/end", f"{status}\n")
    machine.wait_for(exited(status), timeout_s=DEADLINE_S)


def restarted(machine: MachineHandle, times: int) -> None:
    """Wait until its main process runs again, and the machine answers."""
    until(lambda: machine.restarts == times, f"{machine.restarts} restarts instead of {times}")
    until(lambda: begun(machine) == times + 1, "it has not begun")
    assert machine.run("true").ok


def stays(machine: MachineHandle, pause_s: float = 0.4) -> None:
    """Nothing begins any more, for longer than the pause that there would be."""
    before = begun(machine), machine.restarts
    time.sleep(pause_s)
    assert (begun(machine), machine.restarts) == before


def test_main_process_that_fails_is_started_again_and_one_that_succeeds_is_not(
    live: Layout, recorder: Recorder
) -> None:
    machine = live["failing"]
    assert machine.restarts == 0
    end(machine, 3)
    restarted(machine, 1)
    end(machine, 4)
    restarted(machine, 2)
    end(machine, 0)
    stays(machine)
    notes = [event.text for event in recorder.events if event.subject == "failing"]
    for status, pause in ((3, "0.1"), (4, "0.2")):
        words = f"with status {status}, and is started again in {pause} s"
        assert any(text.startswith("its main process ended at") and words in text for text in notes)
    assert sum("and is started again" in text for text in notes) == 2
    machine.restart()
    assert machine.restarts == 0
    assert machine.run("true").ok


def test_main_process_that_fails_at_once_is_started_again_in_place_of_a_failed_creation(
    live: Layout,
) -> None:
    restarted(live["late"], 1)


def test_main_process_is_always_started_again(live: Layout) -> None:
    end(live["always"], 0)
    restarted(live["always"], 1)


def test_main_process_is_started_again_so_often(live: Layout) -> None:
    end(live["once"], 1)
    restarted(live["once"], 1)
    end(live["once"], 1)
    stays(live["once"])


def test_main_process_without_a_policy_is_not_started_again(live: Layout) -> None:
    end(live["no"], 1)
    stays(live["no"])
    live["no"].restart()
    assert live["no"].run("true").ok
    assert begun(live["no"]) == 2


def test_machine_that_is_stopped_is_not_started_again(live: Layout, recorder: Recorder) -> None:
    machine = live["loop"]
    machine.write_text("/srv/left", "4\n")

    def is_waiting() -> bool:
        return any(
            event.subject == "loop" and "started again in 0.8 s" in event.text
            for event in recorder.events
        )

    until(is_waiting, "it has not failed four times")
    machine.stop(timeout_s=0)
    stays(machine, 1.2)
    before = begun(machine)
    machine.start()
    until(lambda: begun(machine) == before + 1, "it was not started")
    assert machine.run("true").ok
    assert machine.restarts == 0


def test_machine_that_has_crashed_is_not_started_again_until_it_heals(live: Layout) -> None:
    machine = live["always"]
    with machine.crash():
        stays(machine)
    assert machine.run("true").ok
    assert machine.restarts == 0
    end(machine, 0)
    until(lambda: machine.restarts == 1, "it is not started again")
