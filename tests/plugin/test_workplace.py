"""Where layouts are built: progress, interrupts and the hard stop, without a session."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_carthage.plugin.policies import Policies, _places
from pytest_carthage.plugin.settings import settings_of
from pytest_carthage.plugin.workplace import Workplace
from tests.plugin.stubs import config


class Plugins:
    """A session without a terminal."""

    def getplugin(self, name: str) -> None:
        return None


@pytest.fixture
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path))
    # the session of these tests has them where layouts of its own stand
    handlers = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    made = config()
    made.pluginmanager = Plugins()
    made.get_verbosity = lambda: 0
    place = Workplace(made)
    messages: list[str] = []
    vars(place)["messages"] = messages
    monkeypatch.setattr(
        place.screen, "say", lambda message, **markup: messages.append(message), raising=True
    )
    yield place
    place.close()
    place.close_portal()
    for number in handlers:
        assert signal.signal(number, handlers[number]) == signal.SIG_DFL


def test_event_loop_is_started_once_and_when_it_is_used(workplace: Any) -> None:
    assert workplace._portal is None
    first = workplace.portal
    assert workplace.portal is first
    workplace.close_portal()
    assert workplace._portal is None


def test_signals_are_ours_from_the_first_build_to_the_end(workplace: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with workplace.building():
        assert signal.getsignal(signal.SIGTERM) != before
        workplace.standing["run-shop"] = lambda: ["web"]
    assert signal.getsignal(signal.SIGTERM) != before
    with workplace.closing():
        del workplace.standing["run-shop"]
    assert signal.getsignal(signal.SIGTERM) != before  # results are still to be written
    workplace.close()
    assert signal.getsignal(signal.SIGTERM) == before


def test_hard_stop_where_nothing_stands_says_so(
    workplace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", lambda status: None)
    workplace.interrupts.ending = True
    with workplace.building():
        signal.raise_signal(signal.SIGTERM)
    assert workplace.messages == [
        "carthage: hard stop; nothing stands that would have to be removed"
    ]


def test_hard_stop_lists_what_the_supervisor_removes(
    workplace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    workplace.standing["run-shop"] = lambda: ["web", "db"]
    workplace.standing["run-office"] = list
    workplace.interrupts.ending = True
    with workplace.closing():
        signal.raise_signal(signal.SIGINT)
    assert statuses == [130]
    assert workplace.messages == [
        "carthage: hard stop; the supervisor now removes:",
        "  run-shop: web, db",
        "  run-office: ",
    ]


def test_first_interrupt_of_a_teardown_is_answered(workplace: Any) -> None:
    def close() -> None:
        with workplace.closing():
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        close()
    assert workplace.messages == [
        "carthage: teardown is under way and will be finished; once more for a hard stop"
    ]


@pytest.mark.parametrize(
    ("settings", "offline", "keep_broken"),
    [
        ({}, False, False),
        ({"offline": True}, True, False),
        ({"keep": True}, False, True),
        ({"keep_on_fail": True}, False, True),
    ],
)
def test_builds_may_do_what_the_options_say(
    settings: dict[str, bool], offline: bool, keep_broken: bool
) -> None:
    policies = Policies(settings_of(config(**settings)))
    assert policies.offline is offline
    assert policies._general.keep_broken is keep_broken
    assert policies._general.lock is None


def test_lock_is_searched_beside_the_layout_then_with_the_tests_then_above(tmp_path: Any) -> None:
    request: Any = SimpleNamespace(
        config=SimpleNamespace(rootpath=tmp_path),
        _pyfuncitem=SimpleNamespace(path=tmp_path / "suite/web/test_it.py"),
    )
    shared = tmp_path.parent / "elsewhere/layouts.py"
    assert list(_places(shared, request)) == [
        shared.parent,
        tmp_path / "suite/web",
        tmp_path / "suite",
        tmp_path,
    ]
    assert list(_places(tmp_path / "layouts/shop.py", request)) == [
        tmp_path / "layouts",
        tmp_path / "suite/web",
        tmp_path,
        tmp_path / "suite",
        tmp_path,
    ]
