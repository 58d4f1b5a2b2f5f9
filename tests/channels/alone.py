"""Endpoints of a test's own, in a process of their own: on this host, in no namespace at all."""

from __future__ import annotations

import os
import pwd
import socket

from pytest_carthage.fabric.agent import Agent

__all__ = ["ME", "agent"]

ME = pwd.getpwuid(os.getuid()).pw_name


def agent(control: socket.socket) -> None:
    """Serve as an agent does in a machine; what a test does with it happens in its folder."""
    Agent(env={"SHOP": "1"}, user=ME).serve(control)
