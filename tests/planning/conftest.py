"""What the tests of planning share with those of the model."""

from tests.model.conftest import declare, refused

__all__ = ["declare", "refused"]
