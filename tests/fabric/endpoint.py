"""An agent without namespaces, on the host itself, behind the real protocol.

``python endpoint.py SOCKET`` prints a line when it listens, and serves until its standard input
ends. What a test does with it happens on the host: only in the test's folder.
"""

from __future__ import annotations

import os
import pwd
import sys
from functools import partial

from pytest_carthage.fabric.agent import Agent
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.server import Connection, Reply


def main(path: str) -> None:
    listening = frames.listen(path)
    agent = Agent(env={}, user=pwd.getpwuid(os.getuid()).pw_name)

    def channel(connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        connection.on_close.append(partial(agent._hang_up, connection))
        return agent.greeting()

    agent.server.handlers["channel"] = channel
    agent.server.listen(listening)
    agent.server.watch(0, agent.server.stop)
    print("listening", flush=True)
    agent.server.run()


if __name__ == "__main__":
    main(sys.argv[1])
