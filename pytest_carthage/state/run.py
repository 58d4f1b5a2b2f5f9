"""A run as its clients see it: joining or starting its supervisor, finding environments."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import FabricError, StateError
from pytest_carthage.fabric import channel, client, wire
from pytest_carthage.provider import Identity
from pytest_carthage.state import journal, places

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_carthage.fabric.channel import AsyncChannel

_START_S = 20.0
_BOOTSTRAP = (
    "import sys; sys.path.append({path!r}); "
    "from pytest_carthage.state.supervisor import main; main({folder!r}, {ready})"
)


def new_name() -> str:
    """A run name that nobody else has, short enough to type."""
    return "r" + secrets.token_hex(3)


@contextlib.contextmanager
def _gate(root: Path) -> Iterator[None]:
    """One at a time may start a supervisor or collect garbage, in all processes of a user."""
    with (root / ".starting").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_alive(folder: Path) -> bool:
    """Whether the supervisor of a run is there: it holds the lock."""
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


#: supervisors that this process has started, and not yet reaped
_started: list[int] = []


def _reap() -> None:
    """Let go of supervisors that have ended: one process may have many runs, as tests do."""
    for pid in list(_started):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid
        if ended:
            _started.remove(pid)


def _start_supervisor(folder: Path) -> None:
    _reap()
    reading, writing = os.pipe()
    package = str(Path(__file__).resolve().parents[2])
    code = _BOOTSTRAP.format(path=package, folder=str(folder), ready=writing)
    with (folder / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, "CARTHAGE_PATH": package},
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as ready:
        if not select.select([ready], [], [], _START_S)[0] or ready.read(5) != b"ready":
            process.kill()
            process.wait()
            text = (folder / "supervisor.log").read_text(errors="replace").strip()
            shutil.rmtree(folder, ignore_errors=True)
            raise StateError(
                f"run {folder.name!r}: its supervisor did not start: "
                + (
                    places.lack_of_space()
                    or f"no word in {_START_S:g} s; "
                    f"it printed: {text.splitlines()[-1] if text else 'nothing'}"
                )
            )
    # it may outlive this process: Popen must not wait for it
    process.returncode = 0
    _started.append(process.pid)


class Run:
    """A client's connection to the supervisor of one run."""

    def __init__(self, name: str, folder: Path, supervisor: AsyncChannel) -> None:
        self.name = name
        self.folder = folder
        self._supervisor = supervisor

    @classmethod
    async def join(cls, name: str, *, token: str | None = None) -> Run:
        """Connect to the supervisor of a run; start it where there is none.

        :param token: what all processes of one run have in common; a run of the same name
            with another token is somebody else's. By default this process is the whole run.
        :raises StateError: it cannot be started, the name is taken, the folder is not ours.
        """
        token = token or secrets.token_hex(8)
        try:
            root = places.runs_root()
        except OSError as error:
            raise StateError(f"no place for the state of runs: {error}") from error
        folder = root / name
        with _gate(root):
            for _ in range(3):
                if not _is_alive(folder):
                    if folder.exists():
                        await _clean_up(folder)
                    folder.mkdir(mode=0o700)
                    _start_supervisor(folder)
                try:
                    supervisor = await channel.connect(
                        str(folder / "supervisor.sock"), f"supervisor of run {name!r}"
                    )
                except FabricError:
                    continue  # it was just ending
                try:
                    await supervisor.request("hello", token=token, pid=os.getpid())
                except FabricError as error:
                    if supervisor.closed:
                        continue  # as above
                    supervisor.close()
                    raise StateError(str(error)) from None
                return cls(name, folder, supervisor)
        raise StateError(f"run {name!r}: its supervisor does not answer; see {folder}")

    async def environment(
        self, name: str, description: Mapping[str, object], *, unprivileged: bool
    ) -> tuple[Path, AsyncChannel]:
        """Begin an environment: its folder, and a channel to its fabric.

        :raises FabricError: the kernel refused the namespaces, or the name is taken.
        """
        reply, _ = await self._supervisor.request(
            "environment",
            name=name,
            description={**description, "run": self.name, "owner_pid": os.getpid()},
            unprivileged=unprivileged,
        )
        folder = Path(reply["folder"])
        fabric = await channel.connect(str(folder / "fabric.sock"), f"fabric of {name!r}")
        return folder, fabric

    async def intend(self, identity: Identity) -> None:
        """Write to the journal what is about to exist."""
        await self._supervisor.request("intent", identity=as_entry(identity))

    async def destroyed(self, identity: Identity) -> None:
        """Write to the journal that something is gone."""
        await self._supervisor.request("destroyed", identity=as_entry(identity))

    async def describe(self, environment: str, description: Mapping[str, object]) -> None:
        """Add to what is known of an environment on disk."""
        await self._supervisor.request(
            "describe", environment=environment, description=dict(description)
        )

    async def keep(self, environment: str, *, for_s: float | None) -> None:
        """Have an environment stay when its owner ends; for ever where ``for_s`` is None."""
        expires_at = None if for_s is None else time.time() + for_s
        await self._supervisor.request("keep", environment=environment, expires_at=expires_at)
        await self._supervisor.request("release", environment=environment)

    async def destroy(self, environment: str) -> None:
        """Destroy an environment with all that is in it."""
        await self._supervisor.request("destroy", environment=environment)

    def close(self) -> None:
        """Leave the run: environments of this client that are not kept are destroyed."""
        self._supervisor.close()


def as_entry(identity: Identity) -> dict[str, object]:
    """An identity as the journal keeps it."""
    return {
        "kind": identity.kind,
        "run": identity.run,
        "environment": identity.environment,
        "name": identity.name,
        "detail": [list(pair) for pair in identity.detail],
    }


def from_entry(entry: Mapping[str, Any]) -> Identity:
    """An identity as it was written to the journal."""
    return Identity(
        kind=entry["kind"],
        run=entry["run"],
        environment=entry["environment"],
        name=entry["name"],
        detail=tuple((key, value) for key, value in entry["detail"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A live environment, as ``pytest-carthage ls`` shows it."""

    name: str
    run: str
    layout: str
    folder: Path
    machines: Mapping[str, Mapping[str, Any]]
    created_at: float
    kept: bool
    #: UNIX time; None: never
    expires_at: float | None
    #: process that built it
    owner_pid: int
    #: whether its owner is still connected
    owned: bool
    description: Mapping[str, Any]

    @property
    def socket(self) -> Path:
        """Socket of its fabric, for :func:`pytest_carthage.fabric.client.connect`."""
        return self.folder / "fabric.sock"


def list_environments() -> list[Listed]:
    """All live environments of this user, oldest first."""
    found = []
    root = places.runs_root()
    folders = sorted(root.iterdir())
    for folder in folders:
        if not folder.is_dir() or not _is_alive(folder):
            continue
        try:
            with client.connect(str(folder / "supervisor.sock")) as supervisor:
                reply, _ = supervisor.request("list")
        except (OSError, client.Refused):
            continue  # it has just ended
        for row in reply["environments"]:
            found.append(
                Listed(
                    name=row["name"],
                    run=row["run"],
                    layout=row.get("layout", "?"),
                    folder=folder / "envs" / row["name"],
                    machines=row.get("machines", {}),
                    created_at=row["created_at"],
                    kept=bool(row.get("kept")),
                    expires_at=row.get("expires_at"),
                    owner_pid=row["owner_pid"],
                    owned=row["owned"],
                    description=row,
                )
            )
    return sorted(found, key=lambda one: one.created_at)


def find_environment(name: str | None) -> Listed:
    """The live environment of this name, or the only one where ``name`` is None.

    :raises StateError: there is none, or more than one; lists what there is.
    """
    there = list_environments()
    names = ", ".join(one.name for one in there) or "none"
    if name is None:
        if len(there) == 1:
            return there[0]
        raise StateError(f"which environment? alive are: {names}; name it as ENVIRONMENT/MACHINE")
    exact = [one for one in there if one.name == name]
    begins = exact or [one for one in there if one.name.startswith(name) or one.run == name]
    if len(begins) == 1:
        return begins[0]
    if begins:
        several = ", ".join(one.name for one in begins)
        raise StateError(f"environment {name!r}: several begin so: {several}")
    raise StateError(f"no environment {name!r} is alive; there are: {names}")


def destroy_environment(name: str) -> None:
    """Destroy a live environment, whoever built it.

    :raises StateError: there is none of this name.
    """
    found = find_environment(name)
    with client.connect(str(places.state_root() / "runs" / found.run / "supervisor.sock")) as sup:
        sup.request("destroy", environment=found.name)


def alive_run(name: str) -> bool:
    """Whether a run of this name has a living supervisor."""
    return _is_alive(places.state_root() / "runs" / name)


async def _clean_up(folder: Path) -> list[str]:
    """Remove what a dead supervisor left; returns a line for each thing."""
    from pytest_carthage.state.supervisor import IN_FABRIC, remove_remains, sweep

    removed = []
    left = journal.outstanding(journal.read(folder / "journal.jsonl"))
    foreign = [i for i in left if i["kind"] not in IN_FABRIC and i["kind"] != "fabric"]
    if foreign:
        sweep(foreign, folder / "supervisor.log")
        removed += [f"{i['kind']} {i['environment']}/{i['name']}" for i in foreign]
    environments = {identity["environment"] for identity in left}
    with contextlib.suppress(FileNotFoundError):
        environments |= {path.name for path in (folder / "envs").iterdir()}
    for name in sorted(environments):
        remove_remains(name, folder / "envs" / name)
        removed.append(f"environment {name}")
    remove_remains(folder.name, folder)
    return removed


async def collect_garbage() -> list[str]:
    """Remove what runs left whose supervisor is dead; returns a line for each thing."""
    removed = []
    root = places.runs_root()
    with _gate(root):
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and not _is_alive(folder):
                removed += await _clean_up(folder) or [f"folder of run {folder.name}"]
    return removed


def description_of(folder: Path) -> dict[str, Any]:
    """What is known on disk of an environment."""
    text = (folder / "environment.json").read_text()
    description: dict[str, Any] = json.loads(text)
    return description


__all__ = [
    "Listed",
    "Run",
    "alive_run",
    "as_entry",
    "collect_garbage",
    "description_of",
    "destroy_environment",
    "find_environment",
    "from_entry",
    "list_environments",
    "new_name",
    "wire",
]
