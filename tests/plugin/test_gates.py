"""What a run tells of its gates: in its summary, and in the bundle of a failed test."""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import Suite

CONFTEST = """
import pytest, socket, threading

@pytest.fixture(scope="session")
def outside():
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                with sock:
                    sock.sendall(sock.recv(100) * 2)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)

@pytest.fixture
def through(pair, outside):
    def go(machine="one", **options):
        with pair.gate(machine, to=outside, **options) as gate:
            with pair[machine].connect(gate.port, gate.address) as sock:
                sock.sendall(b"hello")
                while sock.recv(100):
                    pass
    return go
"""


def test_summary_tells_every_gate_of_a_run_that_went_well(suite: Suite) -> None:
    suite.write(
        conftest=CONFTEST,
        test_it="""
        def test_one(through): through()
        def test_two(through): through("two")
        def test_two_again(through): through("two")
        """,
    )
    result = suite.run("--carthage-name=told")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "*= gates =*",
            "told-pair: one to 127.0.0.1:*, ??:??:?? to ??:??:??: 1 connection, 5 bytes out, "
            "10 bytes in",
            "told-pair: two to 127.0.0.1:*, 2 times, ??:??:?? to ??:??:??: 2 connections, "
            "10 bytes out, 20 bytes in",
        ]
    )


def test_run_without_gates_tells_nothing(suite: Suite) -> None:
    suite.write(test_it="def test_it(pair): pass\n")
    suite.run().stdout.no_fnmatch_line("*= gates =*")


def test_gate_that_ends_with_the_layout_is_told(suite: Suite) -> None:
    suite.write(
        conftest=CONFTEST,
        test_it="""
        import asyncio

        def test_it(pair, outside):
            async def go():
                await pair.aio.gate("one", to=outside, for_s=60)
            asyncio.run(go())
        """,
    )
    result = suite.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*= gates =*", "*: one to *(the layout ended): 0 connections, *"])


def test_gate_of_an_interrupted_run_is_told(suite: Suite) -> None:
    suite.write(
        conftest=CONFTEST,
        test_it="""
        def test_it(pair, outside):
            with pair.gate("one", to=outside):
                raise KeyboardInterrupt
        """,
    )
    result = suite.run_apart()
    result.stdout.fnmatch_lines(["*= gates =*", "*: one to 127.0.0.1:*: 0 connections, *"])


def test_failed_tests_bundle_holds_the_gates(suite: Suite) -> None:
    suite.write(
        conftest=CONFTEST,
        test_it="""
        def test_bad(pair, through):
            through()
            assert not pair
        """,
    )
    suite.run("--carthage-name=bundled").assert_outcomes(failed=1)
    folder = suite.bundle("test_it.py.test_bad") / "bundled-pair"
    (gate,) = json.loads((folder / "gates.json").read_text())
    assert (gate["machine"], gate["closed_by"], gate["failed"]) == ("one", "test", 0)
    assert gate["opened_at"] < gate["closed_at"]
    (connection,) = gate["connections"]
    assert (connection["sent_bytes"], connection["received_bytes"]) == (5, 10)
    assert connection["error"] is None
    assert "gate one to 127.0.0.1" in (folder.parent / "events.txt").read_text()
    assert (
        "gates.json"
        in suite.summary("test_it.py.test_bad")["environments"]["bundled-pair"]["files"]
    )


def test_workers_report_their_gates_to_the_controller(suite: Suite) -> None:
    pytest.importorskip("xdist")
    suite.write(
        conftest=CONFTEST,
        test_it="""
        import asyncio, time

        def test_one(through):
            through()
            time.sleep(0.3)  # so that both workers get one

        def test_two(pair, outside):
            async def go():
                await pair.aio.gate("two", to=outside)
            asyncio.run(go())
            time.sleep(0.3)
        """,
    )
    result = suite.run_apart("-n2", "--carthage-name=spread", xdist=True)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(
        [
            "*= gates =*",
            "spread-pair-gw?: one to 127.0.0.1:*: 1 connection, 5 bytes out, 10 bytes in",
            "spread-pair-gw?: two to 127.0.0.1:* (the layout ended): 0 connections, *",
        ]
    )


def test_worker_that_is_stopped_early_reports_its_gates_too(suite: Suite) -> None:
    """Its layout ends after the last test's report."""
    pytest.importorskip("xdist")
    suite.write(
        conftest=CONFTEST,
        test_it="""
        import asyncio

        def test_bad(pair, outside):
            async def go():
                await pair.aio.gate("two", to=outside)
            asyncio.run(go())
            pytest.exit("enough")

        def test_next(pair): pass
        def test_last(pair): pass
        """.replace("import asyncio", "import asyncio, pytest"),
    )
    result = suite.run_apart("-n1", xdist=True)
    result.stdout.fnmatch_lines(["*= gates =*", "*: two to * (the layout ended): 0 connections, *"])
