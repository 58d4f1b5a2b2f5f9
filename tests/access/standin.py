"""A fabric without namespaces: the real agent, on the host itself, behind the real protocol.

``python standin.py SOCKET MACHINE...`` prints a line when it listens, and serves until its
standard input ends. What a test does with it happens on the host: only in the test's folder.
"""

from __future__ import annotations

import os
import pwd
import socket
import sys

from pytest_carthage.fabric import wire
from pytest_carthage.fabric.agent import Agent
from pytest_carthage.fabric.server import Connection, Reply, Server


def main(path: str, machines: list[str]) -> None:
    listening = wire.listen(path)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        listening.close()
        ours.close()
        agent = Agent(env={}, user=pwd.getpwuid(os.getuid()).pw_name)
        agent.serve(theirs, lambda message: None)
        os._exit(0)
    theirs.close()
    server = Server()

    def channel(connection: Connection, message: wire.Message, fds: list[int]) -> Reply | None:
        if message["machine"] not in machines:
            raise LookupError(f"no machine {message['machine']!r}")
        sock = server.release(connection)
        wire.send(ours, message, [sock.fileno()])
        sock.close()
        return None

    server.handlers = {"channel": channel}
    server.listen(listening)
    server.watch(0, server.stop)
    print("listening", flush=True)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
