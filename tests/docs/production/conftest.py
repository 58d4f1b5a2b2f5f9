"""A suite whose tests reach some of what production has, and miss some."""

from pytest_carthage import Layout, Machine, Network


class Shop(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})


shop = Shop.fixture()
