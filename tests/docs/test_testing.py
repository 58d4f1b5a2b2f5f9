"""The snippet of ``docs/reference/testing.md``."""

from __future__ import annotations

from pytest_carthage import Layout, Machine, stage, testing


class Shop(Layout):
    db = Machine()


# docs: testing
@stage
async def imported(shop: Shop) -> list[str]:
    return (await shop.db.aio.run("psql -tAc 'select name from tills'")).lines


def test_import_counts_the_tills() -> None:
    with testing.live(Shop, answers={"psql *": "till-1\ntill-2\n"}) as shop:
        assert testing.run_stage(imported, shop=shop) == ["till-1", "till-2"]
        assert testing.fakes(shop)["db"].commands == ["psql -tAc 'select name from tills'"]
        # docs: end
