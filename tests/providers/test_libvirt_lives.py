"""What libvirt's events mean for a machine: they are made by hand here."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pytest_carthage.channels.log import Log
from pytest_carthage.errors import FabricError
from pytest_carthage.provider import End
from pytest_carthage.providers.libvirt.lives import FOUND_OFF, RESET, Life

UNDEFINED, STARTED, STOPPED, CRASHED = 1, 2, 5, 8
SHUT_DOWN, DESTROYED, CRASHED_TOO, SAVED, FAILED, FROM_SNAPSHOT = 0, 1, 2, 4, 5, 6


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "db.log"


@pytest.fixture
def life(log: Path) -> Life:
    log.write_text("of a former life\n")
    return Life(Log(log))


async def at_once(life: Life, within_s: float = 0.05) -> End | None:
    """What the machine did, if that is known by now."""
    try:
        return await asyncio.wait_for(life.next(), within_s)
    except TimeoutError:
        return None


@pytest.mark.asyncio
async def test_machine_that_goes_off_is_told_with_its_last_line(life: Life, log: Path) -> None:
    with log.open("a") as file:
        file.write("Powering off.\n\n")
    life.hear(STOPPED, SHUT_DOWN)
    end = await at_once(life)
    assert end is not None
    assert (end.how, end.last) == ("off", "Powering off.")
    assert life.off.is_set()
    assert await at_once(life) is None


@pytest.mark.asyncio
async def test_machine_that_somebody_here_switches_has_not_ended(life: Life) -> None:
    life.is_switched = True
    life.hear(RESET, 0)
    life.hear(STOPPED, DESTROYED)
    assert life.off.is_set()
    assert await at_once(life) is None


@pytest.mark.asyncio
async def test_machine_that_is_reset_reboots(life: Life) -> None:
    life.hear(RESET, 0)
    end = await at_once(life)
    assert end is not None
    assert end.how == "reboot"
    assert not life.off.is_set()


@pytest.mark.asyncio
async def test_machine_that_is_reset_twice_until_it_answers_reboots_once(life: Life) -> None:
    life.hear(RESET, 0)
    life.hear(RESET, 0)
    assert await at_once(life) is not None
    assert await at_once(life) is None
    life.has_booted()
    life.hear(RESET, 0)
    assert await at_once(life) is not None


@pytest.mark.asyncio
async def test_machine_whose_kernel_told_of_its_panic_is_told_with_the_console(
    life: Life, log: Path
) -> None:
    with log.open("a") as file:
        file.write("BUG: for the test\r\nKernel panic - not syncing: Fatal exception\r\n")
    life.hear(CRASHED, 0)
    life.hear(STOPPED, CRASHED_TOO)
    end = await at_once(life)
    assert end is not None
    assert end.how == "panic"
    assert str(end).partition("its kernel panicked at ")[2][8:] == (
        "; it printed last:\n  BUG: for the test\n  Kernel panic - not syncing: Fatal exception"
    )


@pytest.mark.asyncio
async def test_panic_is_told_with_its_reason_however_long_its_trace_is(
    life: Life, log: Path
) -> None:
    with log.open("a") as file:
        file.write("Kernel panic - not syncing: Fatal exception\n")
        file.writelines(f"  frame {number}\n" for number in range(40))
    life.hear(CRASHED, 0)
    life.hear(STOPPED, CRASHED_TOO)
    end = await at_once(life)
    assert end is not None
    lines = end.last.splitlines()
    assert lines[:2] == ["Kernel panic - not syncing: Fatal exception", "..."]
    assert lines[-1] == "frame 39"


@pytest.mark.asyncio
async def test_machine_that_is_reset_by_a_panic_has_panicked(life: Life, log: Path) -> None:
    with log.open("a") as file:
        file.write("Kernel panic - not syncing: VFS: Unable to mount root fs\n")
    life.hear(RESET, 0)
    end = await at_once(life)
    assert end is not None
    assert (end.how, end.last) == (
        "panic",
        "Kernel panic - not syncing: VFS: Unable to mount root fs",
    )


@pytest.mark.asyncio
async def test_panic_of_a_former_life_is_none_of_this(life: Life, log: Path) -> None:
    with log.open("a") as file:
        file.write("Kernel panic - not syncing: sysrq triggered crash\n")
    life.begin()
    life.hear(RESET, 0)
    end = await at_once(life)
    assert end is not None
    assert end.how == "reboot"


@pytest.mark.asyncio
async def test_machine_whose_emulator_ends_is_told(life: Life) -> None:
    life.hear(STOPPED, FAILED)
    end = await at_once(life)
    assert end is not None
    assert "its emulator ended at " in str(end)


@pytest.mark.parametrize("detail", [SAVED, FROM_SNAPSHOT])
@pytest.mark.asyncio
async def test_machine_that_is_saved_or_put_back_has_not_ended(life: Life, detail: int) -> None:
    life.hear(STOPPED, detail)
    assert await at_once(life) is None
    assert not life.off.is_set()


@pytest.mark.asyncio
async def test_machine_that_is_found_off_is_told(life: Life) -> None:
    life.is_found_off()
    end = await at_once(life)
    assert end is not None
    assert end.how == "off"


@pytest.mark.asyncio
async def test_machine_that_went_while_nobody_heard_is_told_once(life: Life, log: Path) -> None:
    life.hear(FOUND_OFF, FAILED)
    assert not life.off.is_set(), "it was not on yet"
    life.is_found_on()
    life.hear(FOUND_OFF, FAILED)
    end = await at_once(life)
    assert end is not None
    assert end.how == "emulator"
    assert life.off.is_set()
    life.hear(FOUND_OFF, FAILED)
    assert await at_once(life) is None
    life.begin()
    life.hear(STARTED, 0)
    with log.open("a") as file:
        file.write("Kernel panic - not syncing: of a test\n")
    life.hear(FOUND_OFF, DESTROYED)
    end = await at_once(life)
    assert end is not None
    assert end.how == "panic"


@pytest.mark.asyncio
async def test_machine_that_is_gone_is_told_to_who_waits(life: Life) -> None:
    waiting = asyncio.ensure_future(life.next())
    await asyncio.sleep(0)
    life.hear(UNDEFINED, 0)
    with pytest.raises(FabricError, match="its domain is gone"):
        await asyncio.wait_for(waiting, 5)


def test_end_is_told_by_what_the_console_has_said_until_it_has_settled(log: Path) -> None:
    """The log comes by another way than the event, and may be behind it."""

    async def settle() -> None:
        await asyncio.to_thread(log.write_text, "Kernel panic - not syncing: Fatal exception\n")

    log.write_text("")
    life = Life(Log(log), settle)
    life.hear(RESET, 0)
    end = asyncio.run(at_once(life, 5))
    assert end is not None
    assert (end.how, end.last) == ("panic", "Kernel panic - not syncing: Fatal exception")


def test_panic_of_a_boot_before_a_reset_from_here_is_not_told(life: Life, log: Path) -> None:
    with log.open("a") as file:
        file.write("Kernel panic - not syncing\n")
    life.is_switched = True
    life.hear(RESET, 0)
    life.is_switched = False
    life.hear(RESET, 0)
    end = asyncio.run(at_once(life, 5))
    assert end is not None
    assert end.how == "reboot"
