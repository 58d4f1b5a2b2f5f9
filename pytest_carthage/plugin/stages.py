"""Stages, run as the fixtures that they are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.errors import TimeLimitError
from pytest_carthage.events import Work
from pytest_carthage.live.layout import Layout
from pytest_carthage.plugin import diary, tracebacks
from pytest_carthage.plugin.alarm import Alarm
from pytest_carthage.plugin.causes import Causes, reason
from pytest_carthage.plugin.environments import Environments
from pytest_carthage.plugin.loops import run_async
from pytest_carthage.plugin.workplace import Workplace
from pytest_carthage.state.timings import stage_id

if TYPE_CHECKING:
    from pytest_carthage.model.stage import Stage

__all__ = ["Stages"]

#: how late after its limit an async stage is stopped that blocks its event loop
_BLOCKED_S = 1.0


class Stages:
    """Runs the stages of a session, with progress and time limits."""

    def __init__(self, workplace: Workplace, causes: Causes, environments: Environments) -> None:
        self._workplace = workplace
        self._environments = environments
        self._causes = causes
        self._alarm = Alarm()

    def run(
        self, stage: Stage, arguments: Mapping[str, Any], request: pytest.FixtureRequest
    ) -> Any:
        """Run a stage; what it raises is remembered as the cause of what it blocks.

        One that has run already in the environments which it stands on, before this session, is
        not run again, unless that was asked for.

        :param arguments: values of the fixtures that it asks for; its events are those of the
            first layout among them.
        """
        __tracebackhide__ = True
        layout = next((each for each in arguments.values() if isinstance(each, Layout)), None)
        if layout is not None:
            environment, reporter = layout.name, layout.aio.reporter
        else:
            environment = next(iter(self._workplace.standing), "")
            reporter = self._workplace.reporter
        subject = f"stage {stage.name}"
        self._workplace.stopwatch.watch(environment, subject, name=stage_id(stage), key=stage.key)
        work = Work(reporter, subject, environment=environment)
        below = self._environments.below(request)
        ran = self._environments.former(stage, below)
        if ran is not None and ran.has_value:
            work.start()
            work.cached(diary.told(stage, ran))
            return ran.value
        work.start()
        if ran is not None:
            work.note("runs again: what it returned before is not known here")
        diary.forget(stage, below)
        try:
            value = self._run(stage, arguments)
        except BaseException as raised:
            error = _alone(raised)
            work.failed(reason(error))
            if isinstance(error, Exception | pytest.fail.Exception):
                tracebacks.begin_in(error, stage.function)
                self._causes.remember(f"stage {stage.name!r}", error)
            if error is not raised:
                raise error from error.__cause__
            raise
        diary.note(stage, below, value)
        work.done()
        return value

    def close(self) -> None:
        """Give back the signal of the time limits."""
        self._alarm.close()

    def _run(self, stage: Stage, arguments: Mapping[str, Any]) -> Any:
        __tracebackhide__ = True
        function: Callable[[], Any] = functools.partial(stage.function, **arguments)
        late = TimeLimitError(
            f"stage {stage.name!r} did not end in {stage.timeout_s or 0:g} s ({stage.place}); "
            "try: @stage(timeout_s=...) with more, or find out what it waits for"
        )
        if not stage.is_async:
            with self._alarm.after(stage.timeout_s, late):
                return function()
        # the alarm rings only where its own loop could not end it in time
        limit_s = None if stage.timeout_s is None else stage.timeout_s + _BLOCKED_S
        with self._alarm.after(limit_s, late):
            return run_async(function, timeout_s=stage.timeout_s, late=late)


def _alone(error: BaseException) -> BaseException:
    """An error without the groups that task groups wrap around a single one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
