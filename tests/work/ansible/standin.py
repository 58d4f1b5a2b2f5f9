"""A fabric without namespaces: the real agent, on the host itself, behind the real protocol.

``python standin.py SOCKET MACHINE...`` prints a line when it listens, and serves until its
standard input ends. What a test does with it happens on the host: only in the test's folder.
"""

from __future__ import annotations

import os
import pwd
import sys

from pytest_carthage.fabric.agent import Agent
from pytest_carthage.fabric.wire import frames
from pytest_carthage.fabric.wire.control import Control
from pytest_carthage.fabric.wire.server import Connection, Reply, Server


def main(path: str, machines: list[str]) -> None:
    listening = frames.listen(path)
    ours, theirs = Control.pair()
    if os.fork() == 0:
        listening.close()
        ours.close()
        agent = Agent(env={}, user=pwd.getpwuid(os.getuid()).pw_name)
        agent.serve(theirs.sock)
        os._exit(0)
    theirs.close()
    server = Server()

    def channel(connection: Connection, message: frames.Message, fds: list[int]) -> Reply | None:
        if message["machine"] not in machines:
            raise LookupError(f"no machine {message['machine']!r}")
        ours.send(message, [connection.sock.fileno()])
        server.release(connection).close()
        return None

    def booted(connection: Connection, message: frames.Message, fds: list[int]) -> Reply:
        return Reply(booted=True)

    server.handlers = {"channel": channel, "booted": booted}
    server.listen(listening)
    server.watch(0, server.stop)
    print("listening", flush=True)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
