"""The target ``ssh``: machines that exist, which are reserved, used and given back."""

from pytest_carthage.providers.ssh.provider import SshProvider

__all__ = ["SshProvider"]
