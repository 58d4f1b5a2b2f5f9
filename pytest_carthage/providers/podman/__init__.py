"""The ``podman`` target: machines from images, as containers in the fabric's networks."""

from pytest_carthage.providers.podman.provider import PodmanMachine, PodmanProvider

__all__ = ["PodmanMachine", "PodmanProvider"]
