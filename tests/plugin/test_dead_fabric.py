"""A fabric that dies in a test: each later test is reported once, and the session ends in order."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Suite, wait_until_clean


@pytest.mark.real
def test_each_test_after_the_death_of_a_fabric_is_reported_once(suite: Suite) -> None:
    suite.write(
        test_it="""
        import os, signal, time
        import pytest
        from pytest_carthage.state.listing import list_environments

        def test_before(pair):
            (listed,) = [each for each in list_environments() if each.owner_pid == os.getpid()]
            os.kill(listed.description["pid"], signal.SIGKILL)
            while list_environments():
                time.sleep(0.02)

        @pytest.mark.parametrize("number", range(3))
        def test_after(pair, number):
            pair.one.run("true")
        """
    )
    result = suite.run_apart("--carthage-name=died", "-ra")
    result.assert_outcomes(passed=1, failed=3, errors=0)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = [line for line in result.outlines if line.startswith("E ")]
    assert len(said) == 3
    assert all("machine 'one' of layout 'Pair': it is gone" in line for line in said)
    assert wait_until_clean() == []
