"""The failure bundle, from a real session."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

from tests.plugin.conftest import Suite

FAILS = """
def test_before(pair):
    pair.one.run("echo before")

def test_bad(pair):
    pair.two.run("echo out; echo err >&2", user="nobody")
    pair.one.run(["sh", "-c", "exit 3"])
"""


def test_bundle_has_everything_and_the_report_names_it(suite: Suite) -> None:
    suite.write(test_it=FAILS)
    result = suite.run("--carthage-name=bundled")
    result.assert_outcomes(passed=1, failed=1)
    folder = suite.bundle("test_it.py.test_bad")
    result.stdout.fnmatch_lines(["*- carthage -*", f"artifacts: {folder}"])
    assert not (folder.parent / "test_it.py.test_before").exists()

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["format"] == 1
    assert summary["test"] == "test_it.py::test_bad"
    assert summary["phase"] == "call"
    assert summary["run"] == "bundled"
    assert "exited with status 3" in summary["error"]
    environment = summary["environments"]["bundled-pair"]
    assert environment["layout"] == "Pair"
    assert environment["missing"] == {}
    for machine in environment["machines"].values():
        assert machine["missing"] == {}
        assert machine["live"]

    inside = folder / "bundled-pair"
    assert "10.0.0.0/24" in (inside / "graph.txt").read_text()
    assert (inside / "graph.svg").read_text().startswith("<svg")
    assert "flowchart" in (inside / "graph.mmd").read_text()
    assert "10.0.0.2/24" in (inside / "two/addresses.txt").read_text()
    assert "10.0.0.0/24" in (inside / "two/routes.txt").read_text()
    assert "pid" in (inside / "two/processes.txt").read_text()
    assert (inside / "two/listening.txt").read_text() == "(none)\n"
    assert "bundled-pair: one: done in" in (folder / "events.txt").read_text()
    assert "def test_bad(pair):" in (folder / "error.txt").read_text()


def test_bundle_has_the_commands_of_this_test_only(suite: Suite) -> None:
    suite.write(test_it=FAILS)
    suite.run("--carthage-name=bundled")
    inside = suite.bundle("test_it.py.test_bad") / "bundled-pair"
    transcript = (inside / "two/commands.txt").read_text()
    assert "$ echo out; echo err >&2 (as nobody)\nstatus 0 after " in transcript
    assert "--- stdout\nout\n--- stderr\nerr\n" in transcript
    (command,) = json.loads((inside / "one/commands.json").read_text())
    assert command["command"] == ["sh", "-c", "exit 3"]
    assert command["status"] == 3
    assert command["duration_s"] > 0


def test_summary_is_the_first_page(suite: Suite) -> None:
    suite.write(
        test_it="""
        def test_bad(pair):
            pair.one.run("echo said >> /proc/1/fd/1")
            pair.two.run("echo secret", secret=True)
            with pair.partition(pair.one, pair.two):
                assert pair.one.run("exit 7", check=False).ok, "no answer"
        """
    )
    result = suite.run("--carthage-artifacts=out", "--carthage-name=first", "-k", "bad")
    result.assert_outcomes(failed=1)
    text = (suite.path / "out/test_it.py.test_bad/summary.txt").read_text()
    assert text.startswith("test_it.py::test_bad failed in its call, ")
    assert "  E           AssertionError: no answer\n" in text
    assert "what went on meanwhile:\n  in force from " in text
    assert " $ exit 7: status 7 after " in text
    assert "last lines of its log:\n      said\n" in text
    assert " $ echo secret: status 0 after " in text
    command = "--carthage-artifacts=out --carthage-name=first test_it.py::test_bad"
    assert f"again:\n  cd {suite.path} && pytest " in text
    assert f"{command}\n\nkept:\n  nothing; to have it stay: cd " in text
    assert f"{command} --keep-on-fail\n" in text
    # the command does what it says
    line = text.partition("again:\n  ")[2].partition("\n")[0]
    again = subprocess.run(
        ["/bin/sh", "-c", line.replace(" pytest ", f" {sys.executable} -m pytest ", 1)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "1 failed in" in again.stdout


def test_message_leads_into_the_bundle_once_its_environment_is_gone(suite: Suite) -> None:
    suite.write(
        conftest="""
        from pytest_carthage import port

        class Late(Layout):
            lan = Network("10.0.0.0/24")
            one = Machine(links={"eth0": lan.at(".1")}, command="echo hello; sleep 99",
                          wait_for=port(80), ready_timeout_s=0.2)

        late = Late.fixture()
        """,
        test_it="""
        from pytest_carthage import port

        def test_wait(pair):
            pair.one.run("echo said >> /proc/1/fd/1")
            pair.one.wait_for(port(80), timeout_s=0.1)

        def test_late(late):
            pass
        """,
    )
    result = suite.run("--carthage-artifacts=out", "--carthage-name=gone")
    result.assert_outcomes(failed=1, errors=1)
    out = suite.path / "out"
    for test, log in (
        ("test_wait", out / "test_it.py.test_wait/gone-pair/one/log.txt"),
        ("test_late", out / "test_it.py.test_late/gone-late/one/log.txt"),
    ):
        words = f"log: {log}; try: less {log}; it printed last:"
        result.stdout.fnmatch_lines([f"*no port 80 after *{words}"])
        assert words in (out / f"test_it.py.{test}/error.txt").read_text()
        assert log.is_file()
    assert "/envs/" not in result.stdout.str()
    # what stays is named as it is
    result = suite.run("--carthage-artifacts=out", "--keep-on-fail", "-k", "wait")
    result.stdout.fnmatch_lines(["*/envs/*/logs/one.log; try: pytest-carthage logs one;*"])


def test_log_of_a_machine_is_cut_to_the_test(suite: Suite) -> None:
    suite.write(
        test_it="""
        import pytest

        @pytest.mark.parametrize("word", ["early", "late"])
        def test_it(pair, word):
            pair.one.run(f"echo {word} >> /proc/1/fd/1")
            assert word == "neither"
        """
    )
    suite.run("--carthage-artifacts=out", "--carthage-name=cut").assert_outcomes(failed=2)
    out = suite.path / "out"
    inside = "cut-pair/one/log.txt"
    assert (out / "test_it.py.test_it[early]" / inside).read_text() == "early\n"
    assert (out / "test_it.py.test_it[late]" / inside).read_text() == (
        f"[6 bytes of before the test are left out; all of it: {out}/cut-pair.logs/one.log]\nlate\n"
    )
    assert (out / "cut-pair.logs/one.log").read_text() == "early\nlate\n"
    assert [path.name for path in out.glob("*.logs/*")] == ["one.log"]


def test_artifacts_option_chooses_the_folder(suite: Suite) -> None:
    suite.write(test_it=FAILS)
    for _ in range(2):  # the second run takes the place of the first
        suite.run("--carthage-artifacts=out")
    assert [path.name for path in (suite.path / "out").iterdir()] == ["test_it.py.test_bad"]


def test_artifacts_of_the_ini_file_are_beside_it(suite: Suite) -> None:
    suite.pytester.makeini("[pytest]\ncarthage_artifacts = out\n")
    suite.write(test_it=FAILS)
    suite.run()
    assert (suite.path / "out/test_it.py.test_bad/summary.json").exists()


def test_artifacts_do_without_pytests_cache(suite: Suite) -> None:
    suite.write(test_it=FAILS)
    result = suite.run("-pno:cacheprovider", "--carthage-name=uncached")
    folder = suite.path / "state/artifacts/uncached/test_it.py.test_bad"
    result.stdout.fnmatch_lines([f"artifacts: {folder}"])


def test_stopped_machine_is_named_as_missing_and_costs_nothing_else(suite: Suite) -> None:
    suite.write(
        test_it="""
        def test_it(pair):
            pair.one.stop()
            assert not pair
        """
    )
    result = suite.run("--carthage-name=stopped")
    result.assert_outcomes(failed=1)
    machines = suite.summary("test_it.py.test_it")["environments"]["stopped-pair"]["machines"]
    assert "observed.json" in machines["one"]["missing"]
    assert machines["two"]["missing"] == {}


def test_folder_that_cannot_be_written_is_told_in_the_report(suite: Suite) -> None:
    suite.write(test_it=FAILS)
    (suite.path / "out").write_text("a file")
    result = suite.run("--carthage-artifacts=out")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["no artifacts: NotADirectoryError: *"])


def test_failure_without_layout_has_no_bundle(suite: Suite) -> None:
    suite.write(test_it="def test_good(pair): pass\ndef test_bad(): assert 0\n")
    result = suite.run("--carthage-artifacts=out")
    result.assert_outcomes(passed=1, failed=1)
    assert not (suite.path / "out").exists()


def test_layout_used_by_way_of_another_fixture_counts(suite: Suite) -> None:
    suite.write(
        conftest="""
        import pytest

        @pytest.fixture
        def shop(request):
            return request.getfixturevalue("pair")
        """,
        test_it="def test_bad(shop): assert not shop\n",
    )
    suite.run("--carthage-artifacts=out").assert_outcomes(failed=1)
    assert (suite.path / "out/test_it.py.test_bad/summary.json").exists()


def test_journal_of_systemd_is_asked_for(suite: Suite) -> None:
    suite.write(
        conftest="""
        from dataclasses import replace

        from pytest_carthage import Image
        from pytest_carthage.provider import Traits
        from pytest_carthage.providers.netns import NetnsProvider

        class Pretender(NetnsProvider):
            kind = "pretender"
            traits = Traits(root="image", init=True, outside=False, needs="folders")
            take_image = None

            def check(self, plan=None):
                return ()

            async def create(self, planned, context):
                return await super().create(replace(planned, image=None, init=None), context)

        def pytest_carthage_providers():
            return {"pretender": Pretender}

        class Booted(Layout):
            one = Machine(Image.oci("localhost/none"), init="systemd", on="pretender")

        booted = Booted.fixture()
        """,
        test_it="def test_it(booted): assert not booted\n",
    )
    suite.run("--carthage-name=journal").assert_outcomes(failed=1)
    machine = suite.summary("test_it.py.test_it")["environments"]["journal-booted"]["machines"]
    told = {**dict.fromkeys(machine["one"]["files"], ""), **machine["one"]["missing"]}
    assert "journal.txt" in told
    assert "log.txt" in machine["one"]["files"]


def test_bundle_is_its_owners_whatever_the_umask(suite: Suite) -> None:
    suite.write(test_it=FAILS)
    before = os.umask(0)
    try:
        suite.run("--carthage-artifacts=out", "--carthage-pcap")
    finally:
        os.umask(before)
    folder = suite.path / "out/test_it.py.test_bad"
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert any(path.name == "packets.pcapng" for path in modes)


def test_bundle_in_a_folder_that_others_may_enter_is_closed(suite: Suite) -> None:
    suite.write(test_it=FAILS)
    folder = suite.path / "out/test_it.py.test_bad"
    folder.mkdir(mode=0o755, parents=True)
    suite.run("--carthage-artifacts=out")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
