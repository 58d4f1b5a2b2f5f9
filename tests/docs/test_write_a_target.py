"""The page ``docs/how-to/write-a-target.md``: its provider, registered as it says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pytest_carthage import Layout, Machine, stage, testing

CONFTEST = """
# docs: conftest
from cell import CellProvider
from pytest_carthage import Layout, Machine


class Bench(Layout):
    board = Machine(on="cell", env={"BOARD": "7"})
    desk = Machine()


bench = Bench.fixture()


def pytest_carthage_providers():
    return {"cell": CellProvider}
# docs: end
"""
TEST = """
def test_board(bench):
    bench.board.write_text("/srv/data", "x")
    assert bench.board.run("cat /srv/data; echo $BOARD; hostname").lines == ["x7", "board"]
    assert bench.board.host.file("/srv/data").content_string == "x"
    assert bench.desk.run("true").ok
"""


# docs: stages
class Shop(Layout):
    db = Machine()


@stage
async def imported(shop: Shop) -> int:
    tills = await shop.db.aio.run("psql -tAc 'select name from tills' shop", user="postgres")
    return len(tills.lines)


def test_import_counts_the_tills() -> None:
    with testing.live(Shop, answers={"psql *": "till-1\ntill-2\n"}) as shop:
        assert testing.run_stage(imported, shop=shop) == 2
        assert testing.fakes(shop)["db"].calls[0].user == "postgres"


# docs: end of stages


@pytest.mark.real
def test_page_s_target_is_registered_and_used_as_it_says(pytester: pytest.Pytester) -> None:
    if os.geteuid() != 0:
        pytest.skip("cells need root")
    shutil.copy(Path(__file__).with_name("cell.py"), pytester.path)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TEST)
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(passed=1)
