from pytest_carthage_fixtures.shop import imported, production, shop

__all__ = ["imported", "production", "shop"]
