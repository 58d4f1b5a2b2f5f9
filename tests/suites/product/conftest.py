from pytest_carthage_fixtures.shop import Shop, imported, production


class Boutique(Shop):
    web = Shop.web.replace(links={"eth0": Shop.dmz.at(".80", gateway=".1")})


shop = Boutique.fixture()
