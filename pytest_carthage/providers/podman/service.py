"""The podman service of one environment: it lives in the fabric, and ends with it.

Its containers and its configuration are in the environment's folder. The host's own store, and
whoever uses that, is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pytest_carthage import clock
from pytest_carthage.errors import CarthageError, HostError
from pytest_carthage.fabric.host.programs import PATH
from pytest_carthage.fabric.wire import frames
from pytest_carthage.providers.podman import host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from podman.api import APIClient

    from pytest_carthage.errors import Problem
    from pytest_carthage.provider import Context

__all__ = ["Refused", "Requests", "Service", "load"]

_START_S = 20.0
_POLL_S = 0.005
#: the longest that podman may take for one request
_REQUEST_S = 120.0
_SOCKET = "podman.sock"
#: requests under way at once, in all environments of this process
_THREADS = 16

_STORAGE = """\
[storage]
driver = "vfs"
graphroot = {root}
runroot = "/run/podman-store"
"""

_threads: list[ThreadPoolExecutor] = []


class Refused(CarthageError):
    """Podman refused a request, or did not answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        #: HTTP status; None: no answer
        self.status = status


class Service:
    """A connection to the podman service whose socket is in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, environment: Path) -> Service:
        """The service of the environment with this folder, running or not."""
        return cls(environment / "podman")

    async def start(self, context: Context) -> None:
        """Start it in the fabric; return when it listens.

        :raises HostError: it does not start, with what it printed.
        """
        engine = host.find_engine()
        if engine is None:
            raise HostError(host.check())
        self._prepare(engine)
        log = self.folder / "service.log"
        # /proc/self/cwd: the kernel takes no more than 108 bytes as the path of a socket
        command = f"podman system service --time 0 unix:///proc/self/cwd/{_SOCKET}"
        # an ordinary user's podman would have one in /tmp; the fabric's /run ends with it
        runtime = "/run/podman-user"
        steps = [*_hiding(engine), f"mkdir -m 700 {runtime}", command, "echo $? > ended"]
        await context.fabric.request(
            "spawn",
            name="podman",
            # roots of machines are mounted later, and must be seen here
            argv=["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", "\n".join(steps)],
            env={
                "PATH": PATH,
                # root's own settings are none of its, and a user cannot look there
                "HOME": str(self.folder / "home"),
                "LANG": "C.UTF-8",
                "XDG_RUNTIME_DIR": runtime,
                "CONTAINERS_CONF": str(self.folder / "containers.conf"),
                "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
                # it would ask systemd for timers; who waits for health asks for the checks
                "DISABLE_HC_SYSTEMD": "true",
            },
            log=str(log),
            cwd=str(self.folder),
        )
        await self._wait_until_it_listens(log)

    def _prepare(self, engine: host.Engine) -> None:
        self.folder.mkdir(mode=0o700)
        (self.folder / "home").mkdir(mode=0o700)
        # it keeps no images: what containers start from are folders that we have mounted
        storage = _STORAGE.format(root=json.dumps(str(self.folder / "store")))
        (self.folder / "storage.conf").write_text(storage)
        (self.folder / "containers.conf").write_text(engine.configuration())

    async def _wait_until_it_listens(self, log: Path) -> None:
        deadline = clock.monotonic_s() + _START_S
        while True:
            try:
                frames.connect(str(self.folder / _SOCKET)).close()
            except OSError as error:
                seen = error.strerror
            else:
                return
            if self._has_ended():
                raise HostError([_failure("ended", log)])
            if clock.monotonic_s() > deadline:
                raise HostError([_failure(f"does not answer after {_START_S:g} s ({seen})", log)])
            # a socket tells nobody that it begins to listen
            await asyncio.sleep(_POLL_S)

    def _has_ended(self) -> bool:
        return (self.folder / "ended").exists() or not self.folder.exists()

    # requests

    async def call(self, steps: Callable[[Requests], Any]) -> Any:
        """Make requests, one after the other, in a thread; a thread cannot be cancelled, so
        that cancellation takes effect when they are done.

        :raises Refused: podman refused one of them.
        """
        work = _in_thread(self._steps, steps)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await work
            raise

    def _steps(self, steps: Callable[[Requests], Any]) -> Any:
        with Requests.to(self.folder) as requests:
            return steps(requests)


def _hiding(engine: host.Engine) -> list[str]:
    """The command that hides what the runtime must not see."""
    if engine.hide is None:
        return []
    path = shlex.quote(str(engine.hide))
    # what a user's namespace has from the host cannot be unmounted there, but covered
    return [f"umount {path}" if engine.has_control_groups else f"mount -t tmpfs none {path}"]


def _failure(what: str, log: Path) -> Problem:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()[-5:]
    except OSError:
        lines = []
    return host.problem(
        f"podman's service {what}; it printed: {' / '.join(lines) or 'nothing'}",
        "podman info, which tells what is wrong on this host",
    )


def load() -> None:
    """Begin to load podman-py in a thread, which takes 0.1 s of processor time."""
    _in_thread(importlib.import_module, "podman.api")


def _in_thread(function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    if not _threads:
        _threads.append(ThreadPoolExecutor(_THREADS, thread_name_prefix="podman"))
    return asyncio.get_running_loop().run_in_executor(_threads[0], function, *arguments)


class Requests:
    """Blocking requests to a service, from one thread."""

    def __init__(self, client: APIClient) -> None:
        self._client = client

    @classmethod
    @contextlib.contextmanager
    def to(cls, folder: Path) -> Iterator[Requests]:
        """Connect to the service in a folder.

        :raises Refused: there is none.
        """
        import podman.api

        try:
            fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Refused(f"no podman service in {folder}: {error.strerror}") from error
        try:
            with podman.api.APIClient(f"unix:///proc/self/fd/{fd}/{_SOCKET}") as client:
                yield cls(client)
        finally:
            os.close(fd)

    def send(
        self,
        verb: str,
        path: str,
        *,
        body: object = None,
        limit_s: float = _REQUEST_S,
        **parameters: str | int | bool,
    ) -> Any:
        """Send one request; returns the decoded answer, or None where it is empty.

        :raises Refused: with podman's own words.
        """
        import requests

        send = getattr(self._client, verb)
        more: dict[str, Any] = {}
        if body is not None:
            more = {"data": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        try:
            answer = send(path, params=parameters, timeout=limit_s, **more)
        except (OSError, requests.RequestException) as error:
            raise Refused(f"no answer from podman: {error}") from error
        if answer.status_code >= 400:
            try:
                words = answer.json()["message"]
            except (ValueError, KeyError):
                words = answer.text
            raise Refused(str(words).strip(), answer.status_code)
        return answer.json() if answer.content else None
