from pytest_carthage import Layout, Machine, Network, stage


class Shop(Layout):
    """A web server and its database."""

    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})
    db = Machine(links={"eth0": lan.at(".2")})


shop = Shop.fixture()


@stage
async def deployed(shop):
    await shop.db.aio.run("test -e /srv/no-export.sql")
