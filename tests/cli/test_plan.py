"""``plan``: of images, machines and stages, what is there, what is to do, why and for how long."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.store.root import Store
from tests.cli.conftest import Run
from tests.support.host import netns_lacks
from tests.support.shelf import tiny_system

Capture = pytest.CaptureFixture[str]

SUITE = """
from pytest_carthage import File, Image, Layout, Machine, Network, stage

tiny = Image.rootfs("system", name="tiny")
server = tiny.with_(File("motd", "/etc/motd"), File("site.conf", "/etc/site.conf"), name="server")


class Lab(Layout):
    net = Network("10.0.0.0/24")
    first = Machine(server, links={"eth0": net.at(".1")})
    second = Machine(tiny, links={"eth0": net.at(".2")}, after=first)


lab = Lab.fixture()


@stage
def produced(lab, imported):
    pass


@stage
def imported(lab):
    pass
"""

BARE = """
from pytest_carthage import Layout, Machine, Network, stage


class Pair(Layout):
    net = Network("10.0.0.0/24")
    one = Machine(links={"eth0": net.at(".1")})
    two = Machine(links={"eth0": net.at(".2")}, after=one)


pair = Pair.fixture()


@stage
def imported(pair):
    pair.one.run("true")
"""


@pytest.fixture
def suite(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images, of which one has a base and two files."""
    monkeypatch.setenv("CARTHAGE_IMAGES", str(folder / "images"))
    tiny_system(folder / "system")
    (folder / "motd").write_text("welcome\n")
    (folder / "site.conf").write_text("listen 80\n")
    (folder / "lab.py").write_text(SUITE)
    (folder / "bare.py").write_text(BARE)
    return folder


def plan(command: Run, what: str = "lab.py:Lab") -> str:
    """What ``plan`` tells below the drawing."""
    done = command("plan", what)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def images(command: Run) -> dict[str, list[tuple[str, str, str | None]]]:
    """Image to title, state and reason of each layer."""
    told = json.loads(command("plan", "--json", "lab.py:Lab").stdout)
    return {
        image["name"]: [(one["title"], one["state"], one["why"]) for one in image["layers"]]
        for image in told["images"]
    }


@pytest.fixture
def built(suite: Path, command: Run) -> Path:
    done = command("images", "build", "-q", "lab.py:Lab")
    assert done.returncode == 0, done.stderr
    return suite


def test_plan_of_what_was_never_built_creates_nothing(suite: Path, command: Run) -> None:
    out = plan(command)
    assert "\nimages\n  server: 3 of 3 layers to do\n" in out
    assert re.search(r"\n    copy motd to /etc/motd +to do: never built\n", out)
    assert re.search(r"\n    first +netns\n    second +netns\n", out)
    # what both images stand on is made once
    assert out.endswith(
        "\nexpected, by earlier runs\n"
        "  images: 3 never timed\n"
        "  machines: 2 never timed\n"
        "  stages: 2 never timed\n"
        "  all: 7 never timed\n"
    )
    assert not (suite / "images").exists()
    assert not (suite / "state").exists()


@pytest.mark.real
def test_plan_of_what_is_built_says_so(built: Path, command: Run) -> None:
    out = plan(command)
    assert "  server: is there\n" in out
    assert re.search(r"\n    copy motd to /etc/motd +cached\n", out)
    assert "to do:" not in out
    assert "\n  images: 0.00 s\n" in out


@pytest.mark.real
def test_plan_names_the_file_that_changed_and_the_time_of_the_last_build(
    built: Path, command: Run
) -> None:
    (built / "motd").write_text("good morning\n")
    out = plan(command)
    assert "  server: 2 of 3 layers to do\n" in out
    assert re.search(
        r"\n    copy motd to /etc/motd +to do: changed: motd \(about \d.\d\d s\)\n", out
    )
    assert images(command)["server"][1:] == [
        ("copy motd to /etc/motd", "to do", "changed: motd"),
        ("copy site.conf to /etc/site.conf", "to do", "a layer below it changes"),
    ]
    assert [row[1] for row in images(command)["tiny"]] == ["cached"]


@pytest.mark.real
def test_plan_of_a_base_that_is_missing_tells_of_the_rest(built: Path, command: Run) -> None:
    subprocess.run(["rm", "-r", "system"], cwd=built, check=True)
    done = command("plan", "lab.py:Lab")
    assert done.returncode == 0
    assert re.search(r"\n  tiny: .*system", done.stdout)
    assert "\n    second" in done.stdout


@pytest.mark.real
def test_plan_does_not_count_as_use(built: Path, command: Run) -> None:
    store = Store(built / "images")
    before = {record.name: record.used_at for record in store.records}
    plan(command)
    assert {record.name: record.used_at for record in store.records} == before


# stages and machines


def test_stages_are_in_the_order_in_which_they_wait(suite: Path, command: Run) -> None:
    assert (
        "\nstages, to do in every run\n"
        "    imported  needs lab; never run\n"
        "    produced  needs lab, imported; never run\n"
    ) in plan(command)


def run_tests(folder: Path) -> None:
    (folder / "conftest.py").write_text("from bare import *\n")
    (folder / "test_it.py").write_text("def test_it(pair, imported):\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_times_of_machines_and_stages_come_from_earlier_runs(suite: Path, command: Run) -> None:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    run_tests(suite)
    out = plan(command, "bare.py:Pair")
    assert re.search(r"\n    one +netns \(about \d+\.\d\d s\)\n    two +netns \(about \d", out)
    assert re.search(r"\n    imported  needs pair; as in the last run \(about \d+\.\d\d s\)\n", out)
    assert "never timed" not in out
    text = (suite / "bare.py").read_text()
    (suite / "bare.py").write_text(text.replace('"true"', '"echo"'))
    assert "imported  needs pair; changed since the last run (about " in plan(
        command, "bare.py:Pair"
    )
    told = json.loads(command("plan", "--json", "bare.py:Pair").stdout)
    (stage,) = told["stages"]
    assert (stage["name"], stage["needs"], stage["state"]) == ("imported", ["pair"], "changed")
    machines = told["machines"].values()
    assert all(machine["expected_s"] > 0 for machine in machines)
    # two waits for one
    expected = told["expected"]
    assert expected["machines"]["seconds"] == pytest.approx(
        sum(machine["expected_s"] for machine in machines)
    )
    assert expected["all"]["seconds"] == pytest.approx(
        expected["machines"]["seconds"] + expected["stages"]["seconds"]
    )


@pytest.mark.real
def test_up_remembers_times_too(suite: Path, command: Run) -> None:
    if problems := netns_lacks():
        pytest.skip("; ".join(map(str, problems)))
    up = command("up", "-q", "bare.py:Pair")
    assert up.returncode == 0, up.stderr
    assert "one  netns (about " in plan(command, "bare.py:Pair")


def test_plan_of_a_dotted_name_takes_stages_of_its_module(
    suite: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(suite))
    assert main(["plan", "bare.Pair"]) in (0, 1)
    assert "    imported  needs pair; never run\n" in capfd.readouterr().out
    sys.modules.pop("bare", None)
