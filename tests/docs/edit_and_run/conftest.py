"""A suite to work on, while its machines stand."""

# docs: begin
from pytest_carthage import Layout, Machine, Network, stage


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    db = Machine(links={"eth0": lan.at(".10")})
    web = Machine(links={"eth0": lan.at(".20")})


shop = Shop.fixture()


@stage
def imported(shop: Shop) -> int:
    shop.db.write_text("/srv/tills", "till-1\ntill-2\n")
    return 2


@stage
def deployed(shop: Shop, imported: int) -> None:
    shop.web.write_text("/srv/motd", f"{imported} tills\n")
