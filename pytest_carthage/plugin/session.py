"""One pytest session that uses layouts: what lives, what failed, and what has to end.

Made when the first layout or stage is set up, and registered as a plugin at that moment: a
session without layouts has none of these hooks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_carthage.errors import CarthageError, HostError, TimeLimitError
from pytest_carthage.model.layout import Layout
from pytest_carthage.planning import make_plan
from pytest_carthage.plugin import choice, names, options, summary, tracebacks
from pytest_carthage.plugin.alarm import Alarm
from pytest_carthage.plugin.interrupts import Interrupts
from pytest_carthage.plugin.scopes import Scopes
from pytest_carthage.plugin.screen import Screen
from pytest_carthage.portal import Portal
from pytest_carthage.realisation import AsyncEnvironment, Environment, Providers
from pytest_carthage.report import bundle
from pytest_carthage.report.events import Event, Fanout, Kind, Recorder
from pytest_carthage.state import places
from pytest_carthage.state.run import Run
from pytest_carthage.state.timings import Stopwatch, machine_id, stage_id

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_carthage.access.gate import AsyncGate
    from pytest_carthage.access.resolved import NetworkEvent, Subscriber
    from pytest_carthage.images.handle import ImageHandle
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.images.store import Built
    from pytest_carthage.model.image import Image
    from pytest_carthage.model.stage import Stage
    from pytest_carthage.planning.plan import Plan

__all__ = ["Live", "Session"]

#: how long a teardown may take before the rest is left to the supervisor
_CLOSE_S = 120.0
_COLLECT_S = 30.0
#: how late after its limit an async stage is stopped that blocks its event loop
_BLOCKED_S = 1.0


@dataclass(slots=True, kw_only=True, eq=False)
class Live:
    """One live layout, and the tests that failed with it."""

    instance: Layout
    environment: Environment
    #: pytest's definition of the fixture that yields it
    definition: Any
    failed: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Cause:
    """Why a layout or a stage is not there for the tests that want it."""

    #: kept, so that its identity stays its own
    error: BaseException
    #: as in ``layout 'Shop'`` or ``stage 'imported'``
    subject: str
    #: the first test that met it
    test: str
    line: str
    #: environment that is gone by now, and was looked at before
    former: str | None = None


class Session:
    """Builds, runs stages, tears down or keeps; knows which failure blocks which test."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings = options.settings_of(config)
        self.live: list[Live] = []
        self.recorder = Recorder()
        self.screen = Screen(config)
        self.stopwatch = Stopwatch()
        self.reporter = Fanout([self.recorder, self.screen, self.stopwatch])
        self.interrupts = Interrupts(tell=self._tell, hard_stop=self._stop_hard)
        self._providers = Providers(choice.known_providers(config))
        self._portal: Portal | None = None
        self._run: Run | None = None
        self._names: set[str] = set()
        #: name and plan of the layout that is being built
        self._building: tuple[str, Plan] | None = None
        self._causes: dict[int, Cause] = {}
        self._began: dict[str, float] = {}
        self._alarm = Alarm()
        self._shelf = bundle.Shelf(self._artifacts())
        #: gates of each environment that there was, and what was told of each gate
        self._gates: list[Sequence[AsyncGate]] = []
        self._told: dict[tuple[str, int], dict[str, Any]] = {}

    @classmethod
    def of(cls, config: pytest.Config) -> Session:
        """Find the session's one, or make and register it."""
        found = config.pluginmanager.getplugin(options.SESSION)
        if found is None:
            found = cls(config)
            config.pluginmanager.register(found, options.SESSION)
            scopes = Scopes(lambda: [live.environment.aio for live in found.live])
            config.pluginmanager.register(scopes, "carthage-scopes")
            config.add_cleanup(found.close)
        assert isinstance(found, cls)
        return found

    @property
    def portal(self) -> Portal:
        """The event loop on which everything lives, started when first used."""
        if self._portal is None:
            self._portal = Portal()
        return self._portal

    # layouts

    def build(self, cls: type[Layout], request: pytest.FixtureRequest) -> Live:
        """Build a layout for a fixture.

        :raises pytest.fail.Exception: it cannot be built; the message tells all.
        :raises pytest.skip.Exception: this host lacks something that it needs.
        """
        __tracebackhide__ = True
        subject = f"layout {cls.__name__!r}"
        name: str | None = None
        try:
            plan = make_plan(cls, target=self.settings.target, known_targets=self._providers.kinds)
            name = self._new_name(cls)
            self._building = name, plan
            for machine in plan.machines.values():
                self.stopwatch.watch(name, machine.name, name=machine_id(cls, machine))
            with self.screen.showing(), self.interrupts.building():
                self.interrupts.install()
                environment = self.portal.call(self._build, plan, name, cls, request)
        except CarthageError as error:
            self._refuse(subject, error, former=name)
        except Exception as error:
            self._restore_if_idle()
            if isinstance(error, OSError) and (full := places.lack_of_space()):
                failure = pytest.fail.Exception(f"{subject}: {full}", pytrace=False)
                self._remember(subject, failure, former=name)
                _raise(failure, self._shown(error))
            self._remember(subject, error, former=name)
            raise
        live = Live(
            instance=cls(Environment(environment)),
            environment=Environment(environment),
            definition=getattr(request, "_fixturedef", None),
        )
        self.live.append(live)
        self._gates.append(environment.gates)
        self._building = None
        return live

    async def _build(
        self, plan: Plan, name: str, cls: type[Layout], request: pytest.FixtureRequest
    ) -> AsyncEnvironment:
        policy = await self._foreseen(plan, name, cls, request)
        if self._run is None:
            # what the workers of one session have in common, where there are workers
            together = getattr(self.config, "workerinput", {}).get("testrunuid")
            self._run = await Run.join(self.settings.run, token=together)
        return await AsyncEnvironment.build(
            plan,
            name=name,
            run=self._run,
            providers=self._providers,
            portal=self.portal,
            reporter=self.reporter,
            subscribers=[*cls.subscribers, *self._listening_plugins()],
            policy=policy,
            prologue=self._prologue(plan),
            autopsy=self._foresee,
        )

    async def _foreseen(
        self, plan: Plan, name: str, cls: type[Layout], request: pytest.FixtureRequest
    ) -> Policy:
        """What builds for a layout may do; what it forbids is found before anything is built."""
        policy = self.policy
        if self.settings.locked is None and not policy.offline:
            return policy
        from pytest_carthage.images.preflight import check_layout
        from pytest_carthage.plugin import locks

        if self.settings.locked is not None:
            lock = locks.find_lock(cls, self.settings.locked, request)
            policy = replace(policy, lock=lock)

        def note(who: str, text: str) -> None:
            self.reporter.event(
                Event(at_s=time.time(), environment=name, subject=who, kind="note", text=text)
            )

        await check_layout(cls, plan, policy, note=note)
        return policy

    def _refuse(self, subject: str, error: CarthageError, *, former: str | None = None) -> NoReturn:
        """Have the test that wants it fail, or be skipped where this host lacks what it needs."""
        __tracebackhide__ = True
        self._restore_if_idle()
        if isinstance(error, HostError):
            lacks = f"{subject} is not built here: {error}"
            if not self.settings.strict:
                pytest.skip(lacks)
            failure = pytest.fail.Exception(lacks, pytrace=False)
            self._remember(subject, failure)
            _raise(failure, None)
        failure = pytest.fail.Exception(_told(subject, error), pytrace=False)
        self._remember(subject, failure, former=former)
        _raise(failure, self._shown(error))

    # images

    def build_image(self, image: Image, request: pytest.FixtureRequest) -> ImageHandle:
        """Build an image for a fixture or a stage.

        :raises pytest.fail.Exception: it cannot be built; the message tells all.
        :raises pytest.skip.Exception: this host lacks something that it needs.
        """
        __tracebackhide__ = True
        from pytest_carthage.images.builder import ensure
        from pytest_carthage.images.handle import ImageHandle

        subject = f"image {image.name!r}"
        began = time.monotonic()

        def tell(kind: Kind, text: str = "", duration_s: float | None = None) -> None:
            self.reporter.event(
                Event(
                    at_s=time.time(),
                    environment="",
                    subject=f"image {image.name}",
                    kind=kind,
                    text=text,
                    duration_s=duration_s,
                )
            )

        async def build() -> Built:
            policy = self.policy
            if self.settings.locked is not None:
                from pytest_carthage.plugin import locks

                lock = locks.find_lock_of_image(image, self.settings.locked, request)
                policy = replace(policy, lock=lock)
            if policy.offline:
                from pytest_carthage.images.preflight import check

                alone = replace(policy, lock=None)
                await check("", {image.name: image}, alone, note=lambda who, text: None)
            return await ensure(
                image,
                portal=self.portal,
                note=lambda who, text: tell("note", text),
                policy=policy,
            )

        try:
            for fault in image.faults:
                raise fault.error(subject)
            with self.screen.showing(), self.interrupts.building():
                self.interrupts.install()
                tell("start")
                try:
                    built = self.portal.call(build)
                except BaseException as error:
                    tell("failed", _line(error), time.monotonic() - began)
                    raise
                tell("done", "", time.monotonic() - began)
        except CarthageError as error:
            self._refuse(subject, error)
        self._restore_if_idle()
        return ImageHandle(built, self.portal, offline=self.policy.offline)

    @property
    def policy(self) -> Policy:
        """What builds of images may do in this session."""
        from pytest_carthage.images.policy import Policy

        return Policy(
            offline=self.settings.offline,
            keep_broken=self.settings.keep_on_fail or self.settings.keep,
        )

    def _prologue(self, plan: Plan) -> Callable[[AsyncEnvironment], Awaitable[None]] | None:
        if not self.settings.pcap:
            return None
        from pytest_carthage.plugin import pcap

        return pcap.prologue(self.settings, plan)

    def _listening_plugins(self) -> list[Subscriber]:
        """The hook, where anybody implements it."""
        hook = self.config.hook.pytest_carthage_network_event
        return [_told_by(hook)] if hook.get_hookimpls() else []

    async def _foresee(self, environment: AsyncEnvironment) -> None:
        """Look at what a failed build leaves, before it is destroyed."""
        async with asyncio.timeout(_COLLECT_S):
            await self._shelf.foresee(_current_test(), environment, since_s=0.0)

    def _new_name(self, cls: type[Layout]) -> str:
        worker = getattr(self.config, "workerinput", {}).get("workerid")
        base = names.environment(self.settings.run, cls.__name__, worker=worker)
        name, copies = base, 1
        while name in self._names:
            copies += 1
            name = f"{base}-{copies}"
        self._names.add(name)
        return name

    def end(self, live: Live) -> None:
        """Tear a layout down, or keep it, as the options and its tests' outcomes say.

        :raises pytest.fail.Exception: something could not be destroyed; the supervisor will.
        """
        __tracebackhide__ = True
        keep = self.settings.keep or (self.settings.keep_on_fail and bool(live.failed))
        name = live.environment.name
        try:
            with self.screen.showing(), self.interrupts.closing():
                self.portal.call(self._end, live.environment.aio, keep)
        except CarthageError as error:
            failure = pytest.fail.Exception(
                f"environment {name!r}: {'keeping it' if keep else 'its teardown'} failed: "
                f"{error}\nwhat is left of it is removed when this process ends",
                pytrace=False,
            )
            _raise(failure, self._shown(error))
        finally:
            self.live.remove(live)
            self._restore_if_idle()

    async def _end(self, environment: AsyncEnvironment, keep: bool) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                if keep:
                    await environment.keep(for_s=self.settings.keep_for_s)
                    environment.detach()
                else:
                    await environment.close()
        except TimeoutError as error:
            raise TimeLimitError(f"no end after {_CLOSE_S:g} s") from error

    def _shown(self, error: Exception) -> Exception | None:
        """What a failure's message was made of: of use to whoever asks for full traces."""
        return error if self.config.getoption("fulltrace") else None

    def _restore_if_idle(self) -> None:
        self._building = None
        if not self.live:
            self.interrupts.restore()

    # stages

    def run_stage(self, stage: Stage, arguments: Mapping[str, Any]) -> Any:
        """Run a stage; what it raises is remembered as the cause of what it blocks."""
        __tracebackhide__ = True
        subject = f"stage {stage.name!r}"
        given = [value.name for value in arguments.values() if isinstance(value, Layout)]
        name = next(iter(given or [live.environment.name for live in self.live]), "")

        def tell(kind: Kind, text: str = "", duration_s: float | None = None) -> None:
            self.reporter.event(
                Event(
                    at_s=time.time(),
                    environment=name,
                    subject=f"stage {stage.name}",
                    kind=kind,
                    text=text,
                    duration_s=duration_s,
                )
            )

        self.stopwatch.watch(name, f"stage {stage.name}", name=stage_id(stage), key=stage.key)
        began = time.monotonic()
        with self.screen.showing():
            tell("start")
            try:
                with self._alarm.after(_limit_of_thread(stage), _late(stage)):
                    if stage.is_async:
                        value = _run_async(stage, arguments)
                    else:
                        value = stage.function(**arguments)
            except BaseException as raised:
                error = _alone(raised)
                tell("failed", _line(error), time.monotonic() - began)
                if isinstance(error, Exception | pytest.fail.Exception):
                    tracebacks.begin_in(error, stage.function)
                    self._remember(subject, error)
                if error is not raised:
                    raise error from error.__cause__
                raise
            tell("done", "", time.monotonic() - began)
        return value

    # what failed, and what it blocks

    def _remember(self, subject: str, error: BaseException, *, former: str | None = None) -> None:
        """Remember why something is not there, unless this cause is known already."""
        if id(error) not in self._causes:
            self._causes[id(error)] = Cause(
                error=error,
                subject=subject,
                test=_current_test(),
                line=_line(error),
                former=former,
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Skip a test whose layout or stage failed before, with the cause's first line."""
        try:
            return (yield)
        except HostError as error:
            self._skip(error)
        except BaseException as error:
            cause = self._causes.get(id(error))
            if cause is None or cause.test == item.nodeid:
                raise
            reason = f"blocked by {cause.subject}, which failed in {cause.test}: {cause.line}"
        # the place to show is the test, not this line
        raise pytest.skip.Exception(reason, _use_item_location=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Skip a test that wants what this host lacks, once it asks for it."""
        try:
            return (yield)
        except HostError as error:
            self._skip(error)

    def _skip(self, error: HostError) -> NoReturn:
        if self.settings.strict:
            raise error
        raise pytest.skip.Exception(str(error), _use_item_location=True) from None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note failures of the layouts that a test used, and collect what there is to see."""
        if call.when == "setup":
            self._began = {item.nodeid: call.start}
        if call.excinfo is not None and not item.config.getoption("fulltrace"):
            tracebacks.shorten(call.excinfo)
        report = yield
        if news := self._news_of_gates():
            vars(report)["carthage_gates"] = news
        if call.excinfo is not None and isinstance(call.excinfo.value.__context__, HostError):
            vars(report)["carthage_lacks"] = str(call.excinfo.value)
        if report.failed:
            used = [live for live in self.live if _uses(item, live)]
            for live in used:
                live.failed.append(item.nodeid)
            if report.when != "teardown":
                cause = self._causes.get(id(call.excinfo.value)) if call.excinfo else None
                self._collect(item, call, report, used, cause)
        return report

    def _collect(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        used: list[Live],
        cause: Cause | None,
    ) -> None:
        former = [cause.former] if cause is not None and cause.former is not None else []
        if not used and not former:
            return
        failure = bundle.Failure(
            test=item.nodeid,
            phase=report.when,
            began_s=self._began.get(item.nodeid, call.start),
            ended_s=call.stop,
            error=report.longreprtext,
            run=self.settings.run,
        )
        environments = [live.environment.aio for live in used]
        try:
            folder = self.portal.call(
                self._shelf.collect,
                failure,
                environments,
                self.recorder,
                former=former,
                timeout_s=_COLLECT_S,
            )
        except Exception as error:  # an observer must not change what it observes
            report.sections.append(("carthage", f"no artifacts: {_line(error)}"))
            return
        report.sections.append(("carthage", f"artifacts: {folder}"))

    def _artifacts(self) -> Path:
        if self.settings.artifacts is not None:
            return self.settings.artifacts
        cache = getattr(self.config, "cache", None)
        if cache is not None:
            base: Path = cache.mkdir("carthage")
        else:
            base = places.state_root() / "artifacts"
        bundle.prune(base, keep=3)
        return base / self.settings.run

    def _news_of_gates(self) -> list[dict[str, Any]]:
        """What became of gates since this was asked before."""
        news: list[dict[str, Any]] = []
        for gates in self._gates:
            for gate in tuple(gates):
                seen = gate.record.totals
                key = seen["environment"], seen["number"]
                if self._told.get(key) != seen:
                    self._told[key] = seen
                    news.append({**seen, "told_at": time.time()})
        return news

    # the end

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Tell of gates that ended after the last test's report."""
        if news := self._news_of_gates():
            output: dict[str, Any] | None = getattr(self.config, "workeroutput", None)
            if output is not None:
                output["carthage_gates"] = news
            else:
                summary.remember_gates(self.config, news)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Note that the session is ending: the next Ctrl-C during a teardown is a hard stop."""
        self.interrupts.ending = True

    def pytest_enter_pdb(self) -> None:
        """Leave the terminal to the debugger."""
        self.screen.pause()

    def close(self) -> None:
        """Leave the run, and stop the event loop. What is not kept is destroyed by then."""
        self.screen.close()
        self.interrupts.restore()
        self._alarm.close()
        self.stopwatch.save()
        portal, self._portal = self._portal, None
        if portal is None:
            return
        run, self._run = self._run, None
        if run is not None:
            with contextlib.suppress(CarthageError):
                portal.call(_leave, run)
        portal.close()

    def _tell(self, text: str) -> None:
        self.screen.say(f"carthage: {text}", yellow=True)

    def _stop_hard(self, number: int) -> None:
        plans = {live.environment.name: live.environment.plan for live in self.live}
        if self._building is not None:
            name, plan = self._building
            plans[name] = plan
        lines = ["carthage: hard stop; the supervisor now removes:"]
        lines += [f"  {name}: {', '.join(plan.machines)}" for name, plan in plans.items()]
        self.screen.close()
        for line in lines:
            self.screen.say(line, red=True)
        os._exit(128 + number)


def _told_by(hook: Any) -> Subscriber:
    async def told(event: NetworkEvent) -> None:
        for returned in hook(event=event):
            if returned is not None:
                await returned

    return told


async def _leave(run: Run) -> None:
    run.close()


def _alone(error: BaseException) -> BaseException:
    """An error without the groups that task groups wrap around a single one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _limit_of_thread(stage: Stage) -> float | None:
    """When the alarm rings: for an async stage only if its own loop could not end it in time."""
    if stage.timeout_s is None or not stage.is_async:
        return stage.timeout_s
    return stage.timeout_s + _BLOCKED_S


def _run_async(stage: Stage, arguments: Mapping[str, Any]) -> Any:
    """Run an async stage on an event loop of its own, in this thread.

    So whatever it does, a signal reaches it, and the layouts' event loop goes on meanwhile.
    """
    __tracebackhide__ = True
    if not _is_loop_running():
        return _run_on_new_loop(stage, arguments)
    # an async test asks for the stage by request.getfixturevalue()
    with ThreadPoolExecutor(1, thread_name_prefix="stage") as thread:
        return thread.submit(_run_on_new_loop, stage, arguments).result()


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_on_new_loop(stage: Stage, arguments: Mapping[str, Any]) -> Any:
    # not Runner.run(): its handler lets code that blocks go on after Ctrl-C
    with asyncio.Runner() as runner:
        return runner.get_loop().run_until_complete(_limited(stage, arguments))


async def _limited(stage: Stage, arguments: Mapping[str, Any]) -> Any:
    limit = asyncio.timeout(stage.timeout_s)
    try:
        async with limit:
            return await stage.function(**arguments)
    except TimeoutError:
        if limit.expired():
            raise _late(stage) from None
        raise


def _raise(failure: BaseException, cause: Exception | None) -> NoReturn:
    """Raise from a frame that is not hidden: pytest remarks on a traceback with none."""
    raise failure from cause


def _late(stage: Stage) -> TimeLimitError:
    return TimeLimitError(
        f"stage {stage.name!r} did not end in {stage.timeout_s or 0:g} s "
        f"({stage.place}); try: @stage(timeout_s=...) with more, or find out what it waits for"
    )


def _current_test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]


def _uses(item: pytest.Item, live: Live) -> bool:
    """Whether a test uses a live layout, be it by way of other fixtures."""
    request = getattr(item, "_request", None)
    names = getattr(request, "fixturenames", getattr(item, "fixturenames", ()))
    if live.definition is None or live.definition.argname not in names:
        return False
    info = getattr(item, "_fixtureinfo", None)
    known = info.name2fixturedefs.get(live.definition.argname) if info is not None else None
    return not known or live.definition in known


def _told(subject: str, error: CarthageError) -> str:
    text = str(error)
    return text if subject in text else f"{subject}: {text}"


def _line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    kind = type(error).__name__
    if isinstance(error, CarthageError | pytest.fail.Exception):
        return text or kind
    return f"{kind}: {text}" if text else kind
