from pytest_carthage_fixtures.shop import Shop, imported, production, shop

__all__ = ["Shop", "imported", "production", "shop"]
