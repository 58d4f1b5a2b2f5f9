"""The live layouts of a session: built for fixtures, then torn down or kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pytest_carthage.errors import CarthageError, RestoreError, StateError, TimeLimitError
from pytest_carthage.events import Fanout, Reporter, Work
from pytest_carthage.live import ledger
from pytest_carthage.live.environment import AsyncLayout
from pytest_carthage.live.layout import Layout
from pytest_carthage.live.ledger import Ran
from pytest_carthage.live.standing import Standing
from pytest_carthage.planning import make_plan
from pytest_carthage.plugin import choice, diary
from pytest_carthage.plugin.askers import Askers
from pytest_carthage.plugin.brief import Brief
from pytest_carthage.plugin.causes import Causes, current_test
from pytest_carthage.plugin.policies import Policies
from pytest_carthage.plugin.reuse import Reuse
from pytest_carthage.plugin.tally import Tally
from pytest_carthage.plugin.workplace import Workplace
from pytest_carthage.providing import Providers
from pytest_carthage.reference import names
from pytest_carthage.report.kept import age
from pytest_carthage.state import places
from pytest_carthage.state.run import Run
from pytest_carthage.state.timings import machine_id

if TYPE_CHECKING:
    from pytest_carthage.live.openings.gate import AsyncGate
    from pytest_carthage.live.resolved import NetworkEvent, Subscriber
    from pytest_carthage.model.stage import Stage
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.report.bundle import Shelf

__all__ = ["Environments", "Live"]

#: how long a teardown may take before the rest is left to the supervisor
_CLOSE_S = 120.0
#: how long a look may take at what a failed build leaves
_AUTOPSY_S = 30.0


@dataclass(slots=True, kw_only=True, eq=False)
class Live:
    """One live layout, and the tests that failed with it."""

    instance: Layout
    environment: AsyncLayout
    #: pytest's definition of the fixture that yields it
    definition: Any
    #: of that fixture
    scope: str
    #: what it was taken up from; None: this session has built it
    standing: Standing | None = None
    failed: list[str] = field(default_factory=list)


class Environments:
    """Builds, keeps and ends the environments of one session, which are all of one run.

    :param shelf: where what a failed build leaves is put aside, for its bundle.
    """

    def __init__(
        self,
        workplace: Workplace,
        causes: Causes,
        policies: Policies,
        shelf: Shelf,
        askers: Askers,
    ) -> None:
        self._workplace = workplace
        self._causes = causes
        self._policies = policies
        self._shelf = shelf
        self._askers = askers
        self._reuse = Reuse.of(workplace.config)
        self._providers = Providers(choice.known_providers(workplace.config))
        self._run: Run | None = None
        self._names: set[str] = set()
        self.live: list[Live] = []
        #: environments that stay for the sake of failed tests, each with those
        self._kept: dict[str, set[str]] = {}
        #: layouts that were not built to what is said of what is kept of them, or why nothing is
        self._remarks: dict[str, str] = {}
        self._unkept: dict[str, str] = {}
        #: what those cost that come again and again
        self.tally = Tally()
        #: gates of each environment that there was
        self._gates: list[Sequence[AsyncGate]] = []

    def used_by(self, item: pytest.Item) -> list[Live]:
        """Those that a test uses, be it by way of other fixtures."""
        return [live for live in self.live if self._askers.uses(item, live.definition)]

    def stays(self, name: str) -> bool:
        """Whether the environment of a test that has failed outlives the session."""
        settings = self._workplace.settings
        live = next((each for each in self.live if each.environment.name == name), None)
        stays = settings.keep or settings.keep_on_fail
        return name in self._kept or (live is not None and (stays or live.standing is not None))

    def stay(self, name: str) -> str:
        """How long an environment stays that does, in words."""
        live = next((each for each in self.live if each.environment.name == name), None)
        if live is not None and live.standing is not None:
            return "stands, as it did before"
        return f"stays for {age(self._workplace.settings.keep_for_s)} when pytest has ended"

    def below(self, request: pytest.FixtureRequest) -> list[AsyncLayout]:
        """Those that a fixture stands on which is being set up."""
        return [
            live.environment
            for live in self.live
            if self._askers.stands_on(request, live.definition)
        ]

    def former(self, stage: Stage, below: Sequence[AsyncLayout]) -> Ran | None:
        """How a stage ran before this session, where it is not to run again."""
        if self._reuse is None or self._reuse.runs_again(stage):
            return None
        taken = [live.environment for live in self.live if live.standing is not None]
        if not all(environment in taken for environment in below):
            return None
        try:
            return diary.former(stage, below)
        except StateError as error:
            self._causes.refuse(f"stage {stage.name!r}", error)

    @property
    def gates(self) -> Iterator[AsyncGate]:
        """Every gate that was opened, also of environments that are gone."""
        for gates in tuple(self._gates):
            yield from tuple(gates)

    def build(self, layout: type[Layout], request: pytest.FixtureRequest) -> Live:
        """Build a layout for a fixture.

        :raises pytest.fail.Exception: it cannot be built; the message says all.
        :raises pytest.skip.Exception: this host lacks something that it needs.
        """
        __tracebackhide__ = True
        subject = f"layout {layout.__name__!r}"
        name: str | None = None
        self._askers.note_chain(request)
        try:
            plan = make_plan(
                layout,
                target=self._workplace.settings.target,
                targets=self._providers.traits,
            )
            reuse = self._reuse
            standing = reuse.standing_for(layout, plan, request) if reuse is not None else None
            with self.tally.building(plan.layout, request.scope):
                if standing is not None:
                    environment = self._take_up(standing, plan, layout, request)
                else:
                    name = self._new_name(layout, request)
                    environment = self._stand(plan, name, layout, request)
        except CarthageError as error:
            self._causes.refuse(subject, error, former=name, remark=self._remark(name))
        except Exception as error:
            if isinstance(error, OSError) and (full := places.lack_of_space()):
                shortage = StateError(full)
                shortage.__cause__ = error
                remark = self._remark(name)
                self._causes.refuse(subject, shortage, former=name, remark=remark)
            self._causes.remember(subject, error, former=name)
            raise
        live = Live(
            instance=layout(environment),
            environment=environment,
            definition=getattr(request, "_fixturedef", None),
            scope=request.scope,
            standing=standing,
        )
        self.live.append(live)
        self._gates.append(environment.rooms.gates.opened)
        return live

    def runs_again(self, test: str) -> None:
        """Forget that a test failed: it is run again, and what becomes of it now counts.

        What stays up for the sake of it alone is destroyed.
        """
        for live in self.live:
            live.failed = [failed for failed in live.failed if failed != test]
        for name, tests in list(self._kept.items()):
            tests.discard(test)
            if not tests and self._run is not None:
                del self._kept[name]
                with self._workplace.closing(), contextlib.suppress(CarthageError):
                    self._workplace.portal.call(self._run.destroy, name)

    def end(self, live: Live) -> None:
        """Tear a layout down, or keep it, as the options and its tests' outcomes say.

        :raises pytest.fail.Exception: something could not be destroyed; the supervisor will. Or a
            host was given back, and not as it was.
        """
        __tracebackhide__ = True
        settings = self._workplace.settings
        keep = settings.keep or (settings.keep_on_fail and bool(live.failed))
        name = live.environment.name
        try:
            with self._workplace.closing():
                try:
                    with self.tally.ending(live.environment.plan.layout, live.scope):
                        self._workplace.portal.call(self._end, live, keep)
                    if keep and not settings.keep and live.standing is None:
                        self._kept[name] = set(live.failed)
                finally:
                    self.live.remove(live)
                    self._workplace.standing.pop(name, None)
        except CarthageError as error:
            what = "keeping it" if keep else "its teardown"
            rest = "\nwhat is left of it is removed when this process ends"
            self._causes.fail(
                f"environment {name!r}: {what} failed: {error}"
                f"{'' if isinstance(error, RestoreError) else rest}",
                error,
            )

    def close(self) -> None:
        """Leave the run. What is not kept is destroyed by then."""
        run, self._run = self._run, None
        if run is not None:
            with contextlib.suppress(CarthageError):
                self._workplace.portal.call(run.leave)

    def _stand(
        self, plan: Plan, name: str, layout: type[Layout], request: pytest.FixtureRequest
    ) -> AsyncLayout:
        __tracebackhide__ = True
        for machine in plan.machines.values():
            self._workplace.stopwatch.watch(name, machine.name, name=machine_id(layout, machine))
        self._workplace.standing[name] = lambda: plan.machines
        with self._workplace.building():
            try:
                environment = self._workplace.portal.call(self._build, plan, name, layout, request)
            except BaseException:
                del self._workplace.standing[name]
                raise
        self._workplace.standing[name] = lambda: environment.plan.machines
        return environment

    async def _build(
        self, plan: Plan, name: str, layout: type[Layout], request: pytest.FixtureRequest
    ) -> AsyncLayout:
        reporter = self._reporter(request.scope)

        def note(subject: str, text: str) -> None:
            Work(reporter, subject, environment=name).note(text)

        policy = await self._policies.of_layout(layout, plan, request, note=note)
        if self._run is None:
            # what the workers of one session have in common, where there are workers
            together = self._worker.get("testrunuid")
            self._run = await Run.join(self._workplace.settings.run, token=together)
        environment = await AsyncLayout.build(
            plan,
            name=name,
            run=self._run,
            providers=self._providers,
            portal=self._workplace.portal,
            reporter=reporter,
            subscribers=[*layout.subscribers, *self._listening_plugins()],
            policy=policy,
            prologue=self._prologue(plan),
            autopsy=self._foresee,
        )
        try:
            diary.begin(environment, layout, plan, request)
        except BaseException:
            await asyncio.shield(environment.close())
            raise
        return environment

    def _take_up(
        self,
        standing: Standing,
        plan: Plan,
        layout: type[Layout],
        request: pytest.FixtureRequest,
    ) -> AsyncLayout:
        __tracebackhide__ = True

        async def take_up() -> AsyncLayout:
            reporter = self._reporter(request.scope)
            return await standing.take_up(
                plan,
                providers=self._providers,
                portal=self._workplace.portal,
                reporter=reporter,
                subscribers=[*layout.subscribers, *self._listening_plugins()],
                policy=await self._policies.of_layout(
                    layout,
                    plan,
                    request,
                    note=lambda subject, text: Work(
                        reporter, subject, environment=standing.name
                    ).note(text),
                ),
                prologue=self._prologue(plan),
            )

        with self._workplace.building():
            return self._workplace.portal.call(take_up)

    def _reporter(self, scope: str) -> Reporter:
        """Who is told of an environment: of one that is there for a test, a person if need be."""
        if scope not in ("class", "function"):
            return self._workplace.reporter
        work = self._workplace
        return Fanout([work.recorder, Brief(work.screen), work.stopwatch])

    async def _end(self, live: Live, keep: bool) -> None:
        environment, settings = live.environment, self._workplace.settings
        try:
            async with asyncio.timeout(_CLOSE_S):
                if keep or live.standing is not None:
                    for complaint in ledger.keep_members(environment.folder, environment.plan):
                        environment.tell("", "note", complaint)
                if live.standing is not None:
                    if settings.keeps_for:
                        await environment.run.keep(environment.name, for_s=settings.keep_for_s)
                    await environment.detach()
                elif keep:
                    await environment.keep(for_s=settings.keep_for_s)
                else:
                    await environment.close()
        except TimeoutError as error:
            raise TimeLimitError(f"no end after {_CLOSE_S:g} s") from error

    def _prologue(self, plan: Plan) -> Callable[[AsyncLayout], Awaitable[None]] | None:
        if not self._workplace.settings.pcap:
            return None
        from pytest_carthage.plugin import pcap

        return pcap.prologue(self._workplace.settings, plan)

    def _listening_plugins(self) -> list[Subscriber]:
        """The hook, where anybody implements it."""
        hook = self._workplace.config.hook.pytest_carthage_network_event
        return [_subscriber(hook)] if hook.get_hookimpls() else []

    async def _foresee(self, environment: AsyncLayout) -> None:
        """Look at what a failed build leaves, before it is destroyed, or keep it."""
        try:
            async with asyncio.timeout(_AUTOPSY_S):
                await self._shelf.foresee(current_test(), environment, since_s=0.0)
        finally:
            if self._workplace.settings.keep or self._workplace.settings.keep_on_fail:
                await self._keep_remains(environment)

    async def _keep_remains(self, environment: AsyncLayout) -> None:
        name = environment.name
        try:
            for_s = self._workplace.settings.keep_for_s
            living = await environment.keep_remains(for_s=for_s)
        except CarthageError as error:
            self._unkept[name] = f"keeping it failed: {error}"
            return
        if living:
            self._kept[name] = {current_test()}
            self._remarks[name] = (
                f"\nkept, as far as it stands: pytest-carthage shell {name}/{living[0]} (or exec, "
                f"logs); remove: pytest-carthage rm {name}"
            )

    def _remark(self, name: str | None) -> str:
        """What has become of a layout that was not built, where somebody wanted it kept."""
        settings = self._workplace.settings
        if not settings.keep and not settings.keep_on_fail:
            return ""
        if name in self._remarks:
            return self._remarks[name]
        return f"\nnothing is kept: {self.unkept(name)}"

    def unkept(self, name: str | None) -> str:
        """Why nothing is kept of a layout that was not built."""
        if name is None:
            return "nothing was built"
        return self._unkept.get(name, "none of its machines came to life")

    @property
    def _worker(self) -> Mapping[str, str]:
        """What pytest-xdist says to a worker; empty elsewhere."""
        return getattr(self._workplace.config, "workerinput", {})

    def _new_name(self, layout: type[Layout], request: pytest.FixtureRequest) -> str:
        base = names.environment(
            self._workplace.settings.run,
            layout.__name__,
            worker=self._worker.get("workerid"),
            test="" if request.scope == "session" else request.node.name.removesuffix(".py"),
        )
        name, copies = base, 1
        while name in self._names:
            copies += 1
            name = f"{base}-{copies}"
        self._names.add(name)
        return name


def _subscriber(hook: Any) -> Subscriber:
    async def notify(event: NetworkEvent) -> None:
        for returned in hook(event=event):
            if returned is not None:
                await returned

    return notify
