"""Memory is promised to virtual machines before they start, over all environments of a user."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_carthage import Image, Layout, Machine, Vm
from pytest_carthage.errors import HostError
from pytest_carthage.planning import make_plan
from pytest_carthage.provider import Channel
from pytest_carthage.providers.libvirt import LibvirtProvider, admission, host, provider
from pytest_carthage.providers.libvirt.admission import Share
from pytest_carthage.state import possession

Environments = Callable[[str], Path]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(host, "available_mib", lambda: 2000)
    return tmp_path / "state"


@pytest.fixture
def alive(state: Path) -> Iterator[Environments]:
    """Makes the folder of an environment whose run lives, until the test ends."""
    held: list[int] = []

    def make(name: str) -> Path:
        run = state / "runs" / f"run-{name}"
        folder = run / "envs" / name
        folder.mkdir(parents=True)
        held.append(possession.take(run))
        return folder

    yield make
    for fd in held:
        os.close(fd)


def share(name: str, outstanding_mib: int) -> Share:
    folder = Path("/state/runs/run/envs") / name
    return Share(folder=folder, layout="Shop", machines={"a": 1}, outstanding_mib=outstanding_mib)


def test_memory_that_is_there_is_no_problem() -> None:
    assert admission.lack({"a": 512, "b": 512}, [], 1224) is None
    assert admission.lack({}, [], 0) is None


def test_memory_that_lacks_is_told_with_numbers() -> None:
    problem = admission.lack({"a": 512, "b": 1024}, [share("settled", 0)], 1000)
    assert str(problem) == (
        "libvirt: 1736 MiB of memory are needed (a 512 MiB, b 1024 MiB, and 100 MiB beside each), "
        "and 1000 MiB are available; try: on=Vm(memory_mib=...) with less, or fewer machines at a "
        "time"
    )


def test_memory_that_others_are_about_to_take_is_told_with_who_has_it() -> None:
    others = [share(f"shop-{number}", number * 100) for number in range(8)]
    problem = admission.lack({"a": 512}, others, 3000)
    assert str(problem) == (
        "libvirt: 612 MiB of memory are needed (a 512 MiB, and 100 MiB beside each), and 200 MiB "
        "are free: 3000 MiB are available, of which the machines of other environments are about "
        "to take the rest: shop-7 (1 machine, 700 MiB not taken yet); shop-6 (1 machine, 600 MiB "
        "not taken yet); shop-5 (1 machine, 500 MiB not taken yet); shop-4 (1 machine, 400 MiB "
        "not taken yet); shop-3 (1 machine, 300 MiB not taken yet); and 2 more; "
        "try: on=Vm(memory_mib=...) with less, or fewer machines at a time (as with -n), or when "
        "those have ended: pytest-carthage ls"
    )


def test_memory_is_promised_once_and_to_whom_it_was_promised_no_more(alive: Environments) -> None:
    shop, other = alive("shop"), alive("other")
    assert admission.admit(shop, "Shop", {"db": 900}) is None
    assert admission.admit(shop, "Shop", {"db": 900, "web": 300}) is None
    assert admission.share_of(shop) == {"db": 900, "web": 300}
    lacking = admission.admit(other, "Shop", {"db": 900})
    assert lacking is not None
    assert "600 MiB are free: 2000 MiB are available" in lacking.what
    assert "shop (2 machines, 1400 MiB not taken yet)" in lacking.what
    assert admission.share_of(other) == {}


def test_promise_ends_with_its_machine(alive: Environments) -> None:
    shop, other = alive("shop"), alive("other")
    admission.admit(shop, "Shop", {"db": 900, "web": 300})
    admission.release(shop, "db")
    admission.release(shop, "db")
    assert admission.share_of(shop) == {"web": 300}
    assert admission.admit(other, "Shop", {"db": 900}) is None


def test_promise_ends_with_its_environment_or_with_who_has_its_run(
    alive: Environments, state: Path
) -> None:
    gone, other = alive("gone"), alive("other")
    orphan = state / "runs" / "dead" / "envs" / "orphan"
    orphan.mkdir(parents=True)
    for folder in (gone, orphan):
        admission.admit(folder, "Shop", {"db": 900})
    assert [each.folder for each in admission.shares()] == [gone]
    gone.rmdir()
    assert admission.shares() == []
    assert admission.admit(other, "Shop", {"db": 1900}) is None
    assert [each.folder for each in admission.shares()] == [other]


def test_what_machines_have_taken_is_not_counted_again(
    alive: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = alive("shop")
    admission.admit(shop, "Shop", {"db": 900})
    monkeypatch.setattr(admission, "_resident_mib", lambda folders: dict.fromkeys(folders, 420))
    assert [each.outstanding_mib for each in admission.shares()] == [580]
    monkeypatch.setattr(admission, "_resident_mib", lambda folders: dict.fromkeys(folders, 1100))
    assert [each.outstanding_mib for each in admission.shares()] == [0]


def test_memory_of_emulators_is_found_by_the_folder_that_they_work_in(tmp_path: Path) -> None:
    folder, proc = tmp_path / "envs/shop", tmp_path / "proc"
    size = os.sysconf("SC_PAGE_SIZE")
    rows = {
        "1": ("/usr/bin/qemu-system-x86_64", f"{folder}/vm/db/disk.qcow2"),
        "2": ("/usr/bin/qemu-system-x86_64", f"{folder}/vm/model-1/seed.img"),
        "3": ("/usr/bin/qemu-system-x86_64", f"{folder}-2/vm/db/disk.qcow2"),
        "4": ("tail", f"{folder}/qemu"),
    }
    for pid, words in rows.items():
        (proc / pid).mkdir(parents=True)
        (proc / pid / "cmdline").write_text("\0".join(words))
        (proc / pid / "statm").write_text(f"999999 {(64 << 20) // size} 1 1 0 1 0\n")
    assert admission._resident_mib([folder], proc) == {folder: 128}


def test_file_of_nonsense_promises_nothing(alive: Environments, state: Path) -> None:
    shop = alive("shop")
    (state / "memory.json").write_text("{")
    assert admission.shares() == []
    assert admission.admit(shop, "Shop", {"db": 900}) is None
    assert admission.share_of(shop) == {"db": 900}


AT_ONCE = """
import sys
import time
from pathlib import Path
from pytest_carthage.providers.libvirt import admission, host
host.available_mib = lambda: 2000
sys.stdin.readline()
print(admission.admit(Path(sys.argv[1]), "Shop", {"db": 400}) is None)
"""


def test_those_who_ask_at_once_are_not_promised_more_than_there_is(alive: Environments) -> None:
    folders = [alive(f"shop-{number}") for number in range(8)]
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for folder in folders
    ]
    for process in asking:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].strip() for process in asking]
    assert sorted(answers) == ["False"] * 4 + ["True"] * 4
    assert sum(share.outstanding_mib for share in admission.shares()) == 2000


def test_environment_is_refused_that_was_too_late(alive: Environments) -> None:
    """What was free when its plan was looked at may be gone when it is prepared."""
    late = alive("late")
    db = Machine(Image.debian("bookworm"), on=Vm(memory_mib=600))
    plan = make_plan(Layout.of("Shop", {"db": db, "gw": Machine(on="netns")}))
    context: Any = SimpleNamespace(folder=late, plan=plan)
    admission.admit(alive("theirs"), "Other", {"big": 1500})
    with pytest.raises(HostError, match=r"needed \(db 600 MiB.*400 MiB are free.*theirs"):
        asyncio.run(provider._admit(context, [plan.machines["db"]]))
    assert admission.share_of(late) == {}


def test_target_tells_before_anything_is_built_what_others_have(alive: Environments) -> None:
    admission.admit(alive("theirs"), "Other", {"big": 1500})
    plan = make_plan(
        Layout.of("Shop", {"db": Machine(Image.debian("bookworm"), on=Vm(memory_mib=600))})
    )
    texts = [str(each) for each in LibvirtProvider().check(plan)]
    (text,) = [text for text in texts if "of memory are needed" in text]
    assert re.search(r"needed \(db 600 MiB.*400 MiB are free.*theirs \(1 machine, 1600 MiB", text)


def test_machine_that_joins_others_of_its_layout_is_asked_for_alone(alive: Environments) -> None:
    mine: Any = SimpleNamespace(environment=alive("mine"))
    admission.admit(mine.environment, "Shop", {"db": 1500})
    target = LibvirtProvider()
    target._services[cast("Channel", object())] = mine
    debian = Image.debian("bookworm")

    def lacking(layout: str) -> str:
        machines = {name: Machine(debian, on=Vm(memory_mib=600)) for name in ("db", "web")}
        problems = map(str, target.check(make_plan(Layout.of(layout, machines))))
        return next(text for text in problems if "of memory are needed" in text)

    assert "needed (web 600 MiB, and" in lacking("Shop")
    assert "needed (db 600 MiB, web 600 MiB, and" in lacking("Other")


SESSION = """
import asyncio
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, Vm
from pytest_carthage.errors import CreationError
from pytest_carthage.providers.libvirt import LibvirtProvider, host
from tests.providers.conftest import DEBIAN

host.available_mib = lambda: 2000


async def validate(self, context, service):
    # its memory is promised, and it is about to make machines
    while not Path("go").exists():
        await asyncio.sleep(0.05)
    raise CreationError("enough was seen")

LibvirtProvider._validate = validate


class Shop(Layout):
    db = Machine(DEBIAN.with_packages("python3"), on=Vm(memory_mib=1200))

shop = Shop.fixture()

def test_first(shop):
    pass

def test_second(shop):
    pass
"""


@pytest.mark.real
@pytest.mark.timeout(300)
def test_of_two_sessions_at_once_one_is_refused_with_numbers_before_anything_is_built(
    tmp_path: Path, state: Path
) -> None:
    lacking = [problem for problem in LibvirtProvider().check() if not problem.is_partial]
    if lacking:
        pytest.skip("; ".join(map(str, lacking)))
    (tmp_path / "test_shop.py").write_text(SESSION)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--carthage-strict"]
    repository = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "CARTHAGE_STATE": str(state),
        "PYTHONPATH": os.pathsep.join([str(repository), *sys.path]),
    }
    sessions = [
        subprocess.Popen(
            [*command, f"--carthage-name=s{number}", "test_shop.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        for number in range(2)
    ]
    try:
        while all(session.poll() is None for session in sessions):
            time.sleep(0.05)
        refused, winner = sorted(sessions, key=lambda session: session.returncode is None)
        said = refused.communicate()[0]
        assert len(list(state.glob("runs/*/envs/*"))) == 1, said  # nothing of who was refused
        assert re.search(
            r"1300 MiB of memory are needed \(db 1200 MiB, and 100 MiB beside each\), and \d+ MiB "
            r"are free: 2000 MiB are available, .*\(1 machine, 1300 MiB",
            said,
        ), said
        assert re.search(r"1 error, 1 blocked|1 blocked, 1 error", said), said
        (tmp_path / "go").touch()
        assert "enough was seen" in winner.communicate(timeout=60)[0]
    finally:
        for session in sessions:
            session.kill()
            session.wait()
