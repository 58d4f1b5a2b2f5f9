"""``--carthage-iac-coverage``: what of Ansible's code no test of a session has reached."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.plugin.conftest import Suite

SITE = """
- hosts: one
  gather_facts: false
  tasks:
    - {name: First, debug: , tags: [first]}
    - {name: Second, debug: , tags: [second], when: inventory_hostname == "one"}
    - {name: Third, debug: , tags: [third]}
"""
TESTS = """
import time
from pathlib import Path

def play(pair, tags, folder):
    pair.ansible("site.yml", tags=tags)
    # so that both workers get one
    (folder / tags).touch()
    deadline = time.monotonic() + 50
    while len(list(folder.glob("*"))) < EXPECTED and time.monotonic() < deadline:
        time.sleep(0.02)

def test_first(pair): play(pair, "first", Path("met"))
def test_second(pair): play(pair, "second", Path("met"))
"""

ansible = pytest.mark.skipif(
    not (Path(sys.executable).parent / "ansible-playbook").exists()
    and shutil.which("ansible-playbook") is None,
    reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
)


def played(suite: Suite, *, workers: int) -> None:
    (suite.path / "site.yml").write_text(SITE)
    (suite.path / "met").mkdir()
    suite.write(conftest="", test_it=TESTS.replace("EXPECTED", str(workers)))


@pytest.mark.real
@ansible
def test_coverage_of_workers_comes_together(suite: Suite) -> None:
    pytest.importorskip("xdist")
    played(suite, workers=2)
    result = suite.run_apart("-n2", "--carthage-iac-coverage=out/coverage.json", xdist=True)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*= coverage of Ansible's code =*",
            "site.yml * 2 of 3 * 1 of 2",
            "total * 2 of 3 * 1 of 2",
            'site.yml:6: when: inventory_hostname == "one" (Second) was never false',
            "site.yml:7: task 'Third' was never reached",
            "written to */out/coverage.json",
        ]
    )
    record = json.loads((suite.path / "out/coverage.json").read_text())
    (file,) = record["files"]
    assert [task["state"] for task in file["tasks"]] == ["ran", "ran", "never"]


@pytest.mark.real
@ansible
def test_coverage_without_a_file_is_told_and_no_more(suite: Suite) -> None:
    played(suite, workers=1)
    (suite.path / "pytest.ini").write_text("[pytest]\ncarthage_iac_coverage = true\n")
    result = suite.run_apart("-k", "first")
    result.stdout.fnmatch_lines(["*= coverage of Ansible's code =*", "site.yml * 1 of 3 * 0 of 2"])
    assert list(suite.path.glob("*.json")) == []


def test_session_without_ansible_says_so_and_leaves_no_trace(suite: Suite) -> None:
    suite.write(test_it="def test_it(): pass")
    result = suite.run("--carthage-iac-coverage=c.json")
    result.stdout.fnmatch_lines(["no run of Ansible has begun a play"])
    assert json.loads((suite.path / "c.json").read_text())["files"] == []
    assert "CARTHAGE_ANSIBLE_COVERAGE" not in os.environ


def test_coverage_is_not_told_where_nobody_asks(suite: Suite) -> None:
    suite.write(test_it="def test_it(): pass")
    suite.run().stdout.no_fnmatch_line("*coverage of*")


@pytest.mark.parametrize("given", [".", "test_it.py", "test_it.py::test_it"])
def test_tests_are_not_taken_for_the_file(suite: Suite, given: str) -> None:
    suite.write(test_it="def test_it(): pass")
    result = suite.run("--carthage-iac-coverage", given)
    result.stderr.fnmatch_lines([f"*--carthage-iac-coverage {given}: that is no file to write*"])
