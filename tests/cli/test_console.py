"""``console``, on a terminal of the test's own; the machine's serial port is a socket.

It types what ``docs/how-to/consoles.md`` says, as :mod:`tests.cli.test_view` does.
"""

from __future__ import annotations

import contextlib
import termios
from collections.abc import Callable, Iterator

import pytest

from pytest_carthage.channels.consoles import forget
from pytest_carthage.cli import main
from pytest_carthage.portal import Portal
from pytest_carthage.state.listing import list_environments
from tests.cli.conftest import Run
from tests.cli.terminal import Terminal
from tests.support.consoles import Recorded


@pytest.fixture
def recorded(up: Callable[..., str]) -> Iterator[Recorded]:
    """Consoles of an environment that is alive; none of its machines has one yet."""
    up()
    (environment,) = list_environments()
    with (
        contextlib.closing(Portal()) as portal,
        contextlib.closing(Recorded(portal, environment.folder)) as bench,
    ):
        yield bench


@pytest.fixture
def attach(recorded: Recorded) -> Iterator[Callable[..., Terminal]]:
    """Attaches to machine ``one`` of it."""
    with contextlib.ExitStack() as stack:

        def go(*arguments: str) -> Terminal:
            terminal = Terminal("console", "one", *arguments)
            stack.callback(terminal.close)
            return terminal

        yield go


def test_console_shows_the_last_lines_takes_keys_and_detaches_without_hurting(
    recorded: Recorded, attach: Callable[..., Terminal]
) -> None:
    port = recorded.record("one")
    port.sendall(b"first\r\nsecond\r\none login: ")
    assert recorded.log("one").shows("login: ")
    terminal = attach("-n", "1")
    terminal.expect("Console of test-pair/one; ^] detaches.")
    terminal.expect("second\r\none login: ")
    terminal.type("root\r\x03")
    typed = b""
    while len(typed) < 6:
        typed += port.recv(100)
    assert typed == b"root\r\x03", "every key goes there, Ctrl-C included"
    terminal.type("\x1d")
    terminal.expect("Detached from test-pair/one.")
    assert terminal.process.wait(30) == 0
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    port.sendall(b"still here")
    assert recorded.log("one").shows("still here")


def test_console_has_another_key_to_detach_and_tells_who_else_is_there(
    recorded: Recorded, attach: Callable[..., Terminal]
) -> None:
    port = recorded.record("one")
    recorded.attach("one")
    terminal = attach("--escape", "^a")
    terminal.expect("Console of test-pair/one, and 1 more are attached; ^A detaches.")
    terminal.type("\x1dx\x01y")
    terminal.expect("Detached from test-pair/one.")
    assert port.recv(100) == b"\x1dx"


def test_console_of_a_machine_that_is_off_waits_for_it(
    recorded: Recorded, attach: Callable[..., Terminal]
) -> None:
    recorded.record("one").close()
    terminal = attach()
    terminal.expect("(the machine is off: it is shown when it comes back)")
    recorded.connect("one").sendall(b"booting")
    terminal.expect("booting")


def test_console_of_a_machine_that_is_removed_ends(
    recorded: Recorded, attach: Callable[..., Terminal]
) -> None:
    recorded.record("one")
    terminal = attach()
    terminal.expect("^] detaches.")
    recorded.portal.call(forget, recorded.folder, "one")
    terminal.expect("test-pair/one is gone.")
    assert terminal.process.wait(30) == 1
    assert termios.tcgetattr(terminal.theirs) == terminal.before


def test_machine_without_a_console_says_so_with_what_there_is(
    recorded: Recorded, attach: Callable[..., Terminal]
) -> None:
    terminal = attach()
    terminal.expect(
        "pytest-carthage: environment 'test-pair': machine 'one' has no serial console (its target "
        "is 'netns'); try: pytest-carthage shell test-pair/one, or pytest-carthage logs test-pair/"
    )
    assert terminal.process.wait(30) == 1


def test_console_without_a_terminal_is_refused(command: Run) -> None:
    done = command("console", "one")
    assert done.returncode == 2
    assert done.stderr == (
        "pytest-carthage: console needs a terminal; what was printed is shown by: "
        "pytest-carthage logs one\n"
    )


@pytest.mark.parametrize("key", ["]", "^", "^1", "Ctrl-A"])
def test_key_that_cannot_detach_is_refused(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["console", "one", f"--escape={key}"])
    assert f"{key!r} is no key like ^] or ^A" in capsys.readouterr().err
