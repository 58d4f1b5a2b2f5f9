"""The ``netns`` target: machines of namespaces, over the host's own files or with an image's."""

from pytest_carthage.providers.netns.provider import NetnsMachine, NetnsProvider

__all__ = ["NetnsMachine", "NetnsProvider"]
