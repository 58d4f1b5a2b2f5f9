"""Plays, those that a layout remembers, and what idempotence refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_carthage.errors import AnsibleError
from pytest_carthage.handles.playbook import HostResult, PlaybookResult, TaskResult
from pytest_carthage.work.ansible.idempotence import refuse_changes
from pytest_carthage.work.ansible.playbook import run_play
from pytest_carthage.work.ansible.plays import Play, Plays
from tests.work.ansible.live import StandIn, plan_of


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yml"
    path.touch()
    return path


def play(site: Path, **options: object) -> Play:
    given: dict[str, object] = options
    return Play.of(plan_of(), site, options=given)  # type: ignore[arg-type]


def result(site: Path, *tasks: TaskResult, failed: int = 0) -> PlaybookResult:
    return PlaybookResult(
        playbook=site,
        hosts={"web1": HostResult(failed=failed)},
        tasks=tasks,
        unmatched=(),
        log=Path("/log"),
        duration_s=1.0,
    )


def task(**values: object) -> TaskResult:
    base = TaskResult(
        play="Site",
        name="Page",
        host="web1",
        status="changed",
        message="",
        duration_s=1.0,
        path="site.yml:3",
    )
    return replace(base, **values)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_play_is_foretold_with_the_options_that_it_had(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site.parent)
    plays = Plays()
    plays.remember(play(Path("site.yml"), tags="web"))
    monkeypatch.chdir("/")
    seen: list[Play] = []

    async def run(foretelling: Play) -> PlaybookResult:
        seen.append(foretelling)
        return result(site)

    assert not await plays.check("Shop", run)
    (foretold,) = seen
    assert foretold.playbooks == (site,)
    assert (foretold.line.tags, foretold.line.check, foretold.line.diff) == (("web",), True, True)


@pytest.mark.asyncio
async def test_each_play_is_foretold_once_in_the_order_of_its_last_run(site: Path) -> None:
    plays = Plays()
    for tags in ("a", "b", "a"):
        plays.remember(play(site, tags=tags))
    plays.remember(play(site, tags="c", check=True))
    seen: list[tuple[str, ...]] = []

    async def run(foretelling: Play) -> PlaybookResult:
        seen.append(foretelling.line.tags)
        return result(site)

    await plays.check("Shop", run)
    assert seen == [("b",), ("a",)]


@pytest.mark.asyncio
async def test_play_that_fails_in_check_mode_is_told_and_the_others_are_checked(
    site: Path,
) -> None:
    plays = Plays()
    plays.remember(play(site, tags="a"))
    plays.remember(play(site, tags="b"))

    async def run(foretelling: Play) -> PlaybookResult:
        if foretelling.line.tags == ("a",):
            raise AnsibleError("failed", result(site, task(status="failed"), failed=1))
        return result(site, task())

    drift = await plays.check("Shop", run)
    assert (len(drift.failed), len(drift.changed)) == (1, 1)


@pytest.mark.asyncio
async def test_play_that_does_not_start_is_no_drift(site: Path) -> None:
    plays = Plays()
    plays.remember(play(site))

    async def run(foretelling: Play) -> PlaybookResult:
        raise AnsibleError("it is gone")

    with pytest.raises(AnsibleError, match="it is gone"):
        await plays.check("Shop", run)


@pytest.mark.asyncio
async def test_play_whose_machines_are_gone_has_nothing_that_drifts(site: Path) -> None:
    plays = Plays()
    plays.remember(play(site))

    async def run(foretelling: Play) -> PlaybookResult:
        raise AnsibleError("no play matches", replace(result(site), unmatched=("Site",)))

    assert not await plays.check("Shop", run)


@pytest.mark.asyncio
async def test_drift_of_nothing_is_refused() -> None:
    async def run(foretelling: Play) -> PlaybookResult:
        raise AssertionError

    with pytest.raises(AnsibleError, match=r"no playbook has run on it.*try: layout\.ansible"):
        await Plays().check("Shop", run)


def test_second_run_that_changes_is_refused_by_task_and_diff(tmp_path: Path, site: Path) -> None:
    environment = StandIn("run-shop", tmp_path, plan_of())
    refuse_changes(environment, result(site, task(status="ok")))
    second = result(
        site,
        task(diff="-old\n+new"),
        task(name="Count", path="", diff="\n".join(f"+{n}" for n in range(50))),
        task(name="Touch"),
    )
    with pytest.raises(AnsibleError) as caught:
        refuse_changes(environment, second)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith(
        "on layout 'Shop' (run-shop): not idempotent, its second run changed again:"
    )
    assert lines[1:5] == ["  Page (web1), site.yml:3:", "    -old", "    +new", "  Count (web1):"]
    assert lines[-4:] == [
        "    ... (10 lines more)",
        "  Touch (web1), site.yml:3:",
        "    it tells no more",
        "log: /log",
    ]
    assert caught.value.result is second


@pytest.mark.asyncio
async def test_idempotence_of_what_is_only_foretold_is_refused(tmp_path: Path, site: Path) -> None:
    environment = StandIn("run-shop", tmp_path, plan_of())
    with pytest.raises(AnsibleError, match="idempotent=True with check=True"):
        await run_play(environment, play(site, check=True), timeout_s=1, idempotent=True)
