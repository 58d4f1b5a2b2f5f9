"""``up --stages`` and ``run``: stages and playbooks in a live environment, again and again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_carthage.cli import main
from pytest_carthage.live import ledger
from pytest_carthage.state.listing import Listed, list_environments
from tests.support.host import netns_lacks

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(netns_lacks()), reason="no machines of namespaces on this host"),
]

Capture = pytest.CaptureFixture[str]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

CONFTEST = """
import pytest
from pytest_carthage import stage
from layouts import Pair, Single

pair = Pair.fixture()
single = Single.fixture()

@pytest.fixture(scope="session")
def rows():
    return ["a", "b"]

@stage
def production(pair, imported):
    pair.two.run(f"echo production {imported} >> /tmp/ran")

@stage
async def imported(pair, rows):
    await pair.one.aio.run(f"echo imported {len(rows)} >> /tmp/ran")
    return len(rows)

@stage
def checked(production, pair):
    assert pair.two.read_text("/tmp/ran") == "production 2\\n"

@stage
def elsewhere(single): pass
"""


@pytest.fixture
def standing(
    folder: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Listed]:
    """Has a layout stand under the name ``st``; its suite has four stages, three of them its."""
    # others' plugins take most of the time
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")

    def up(*options: str, status: int = 0) -> Listed:
        assert main(["up", "layouts.py:Pair", "--name=st", *options]) == status
        (listed,) = list_environments()
        return listed

    return up


def _ran(listed: Listed) -> list[str]:
    return list(ledger.read(listed.folder).stages)


def _edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "conftest.py").read_text()
    assert old in text
    (folder / "conftest.py").write_text(text.replace(old, new))


def test_up_with_stages_runs_those_of_the_layout_in_their_order(
    standing: Callable[..., Listed], capfd: Capture
) -> None:
    listed = standing("--stages")
    out, err = capfd.readouterr()
    assert _ran(listed) == ["imported", "production", "checked"]
    assert err.index("stage imported: done") < err.index("stage production: done")
    assert "elsewhere" not in err
    assert out.splitlines()[0].startswith("st-pair: stays for ")
    assert out.splitlines()[-1] == "remove:  pytest-carthage rm st-pair"


def test_up_until_a_stage_runs_what_that_needs(
    standing: Callable[..., Listed], capfd: Capture
) -> None:
    listed = standing("--stages", "--until=production", "--json")
    assert _ran(listed) == ["imported", "production"]
    assert json.loads(capfd.readouterr().out)["name"] == "st-pair"


def test_up_whose_stage_fails_stays_and_says_how_to_go_on(
    folder: Path, standing: Callable[..., Listed], capfd: Capture
) -> None:
    _edit(folder, "echo production", "echo why it fails >&2; exit 3; echo production")
    listed = standing("--stages", status=1)
    out, err = capfd.readouterr()
    assert _ran(listed) == ["imported"]
    assert "why it fails" in err
    assert "it stands as stage 'production' has left it; when that is mended:" in err
    assert "  pytest-carthage run st-pair production" in err
    assert "st-pair: stays for " in out
    # which does go on
    _edit(folder, "echo why it fails >&2; exit 3; ", "")
    assert main(["run", "st-pair", "production"]) == 0
    assert _ran(listed) == ["imported", "production"]


def test_run_runs_a_stage_again_as_it_is_written_now(
    folder: Path, standing: Callable[..., Listed], capfd: Capture
) -> None:
    standing("--stages", "-q")
    _edit(folder, "echo production", "echo changed")
    capfd.readouterr()
    assert main(["run", "st", "production"]) == 0
    out = capfd.readouterr().out
    assert "stage imported: cached" in out
    assert "stage production: done" in out
    assert main(["exec", "st-pair/two", "--", "cat", "/tmp/ran"]) == 0
    assert capfd.readouterr().out == "production 2\nchanged 2\n"
    assert main(["exec", "st-pair/one", "--", "cat", "/tmp/ran"]) == 0
    assert capfd.readouterr().out == "imported 2\n"


def test_run_finds_stages_of_a_suite_that_has_kept_its_layout(
    folder: Path, command: Run, standing: Callable[..., Listed]
) -> None:
    suite = folder / "suite"
    suite.mkdir()
    shutil.move(folder / "conftest.py", suite / "conftest.py")
    (suite / "test_it.py").write_text(
        "from pytest_carthage import stage\n"
        "@stage\ndef beside(pair): pair.one.run('echo beside >> /tmp/ran')\n"
        "def test_it(pair): assert False\n"
    )
    argv = ["-p", "pytest_carthage.plugin", "--keep-on-fail", "--carthage-name=st", str(suite)]
    subprocess.run([sys.executable, "-m", "pytest", *argv], check=False, capture_output=True)
    (listed,) = list_environments()
    assert ledger.read(listed.folder).suite == str(suite)
    assert command("run", "st", "imported").returncode == 0
    unknown = command("run", "st", "beside")
    assert unknown.returncode == 2
    assert "no stage 'beside' in " in unknown.stderr
    assert command("run", "--from", "suite/test_it.py", "st", "beside").returncode == 0
    assert _ran(listed) == ["imported", "beside"]


def test_run_guesses_which_stage_or_playbook_was_meant(
    folder: Path, command: Run, standing: Callable[..., Listed]
) -> None:
    standing()
    (folder / "site.yml").write_text("[]\n")
    for words, expected in [
        (
            ("prodution",),
            "there are: production, imported, checked; did you mean 'production'? (a playbook is "
            "named by its path)",
        ),
        (("elsewhere",), "no stage 'elsewhere' in "),
        (("sit.yml",), "are: site.yml; did you mean 'site.yml'?"),
        (("imported", "--", "--check"), "stage 'imported' takes no options: --check; those after"),
        (("--from", "no.py", "imported"), "no file "),
    ]:
        done = (
            command("run", *words[:-1], "st", words[-1])
            if words[0] == "--from"
            else command("run", "st", *words)
        )
        assert done.returncode == 2, done
        assert expected in done.stderr
    done = command("run", "sd", "imported")
    assert done.returncode == 2
    assert "no environment 'sd' is alive; there are: st-pair" in done.stderr


def test_run_says_where_no_stages_are(
    folder: Path, command: Run, standing: Callable[..., Listed]
) -> None:
    _edit(folder, "(pair, imported)", "(single)")
    _edit(folder, "(pair, rows)", "(single, rows)")
    _edit(folder, "(production, pair)", "(production)")
    standing()
    done = command("run", "st", "imported")
    assert done.returncode == 2
    assert "layout 'Pair' has no stages in " in done.stderr
    assert "try: --from FILE" in done.stderr


def test_run_refuses_a_changed_layout(
    folder: Path, command: Run, standing: Callable[..., Listed]
) -> None:
    standing()
    text = (folder / "layouts.py").read_text()
    (folder / "layouts.py").write_text(text.replace('lan.at(".2"', 'lan.at(".33"'))
    done = command("run", "st", "imported")
    assert done.returncode == 2
    assert "machine 'two': links: eth0 10.0.0.2/24 then, eth0 10.0.0.33/24 now" in done.stderr


def test_options_about_stages_need_stages(folder: Path, capfd: Capture) -> None:
    assert main(["up", "layouts.py:Pair", "--until=imported"]) == 2
    assert "--until and --from are about stages; try: with --stages" in capfd.readouterr().err


def test_run_plays_a_playbook_with_options(
    folder: Path, command: Run, standing: Callable[..., Listed]
) -> None:
    pytest.importorskip("ansible")
    standing()
    (folder / "site.yml").write_text(
        "- hosts: all\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.raw: echo {{ word }} > /tmp/played\n"
    )
    done = command("run", "st", "site.yml", "--", "--limit", "one", "-e", "word=hello")
    assert done.returncode == 0, done
    assert "one " in done.stdout
    assert "two " not in done.stdout
    seen = command("exec", "st-pair/one", "--", "cat", "/tmp/played")
    assert seen.stdout == "hello\n"


def test_interrupted_run_leaves_the_environment_alone(
    folder: Path, standing: Callable[..., Listed]
) -> None:
    _edit(folder, 'pair.two.run(f"echo', 'open("begun", "w"); pair.two.run(f"sleep 60; echo')
    listed = standing()
    argv = [sys.executable, "-m", "pytest_carthage", "run", "st", "production"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, process_group=0)
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert main(["exec", "st-pair/two", "--", "true"]) == 0
    assert _ran(listed) == ["imported"]
    # nobody holds it any more
    _edit(folder, "sleep 60; ", "")
    assert main(["run", "-q", "st", "production"]) == 0
