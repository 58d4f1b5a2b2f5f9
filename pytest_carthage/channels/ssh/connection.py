"""One connection to an ssh host: opened by the user's own configuration, and never by guessing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.channels.scripts import last_line
from pytest_carthage.channels.ssh.proxy import Proxy
from pytest_carthage.channels.ssh.way import Secrets, Way
from pytest_carthage.errors import FabricError
from pytest_carthage.fabric.wire import channel

if TYPE_CHECKING:
    import asyncssh

__all__ = ["connect", "connected"]

#: a host that says nothing for three times as long is gone
_ALIVE_S = 5.0
#: the longest that is waited for the last words of a command that was to lead to a host
_LAST_WORDS_S = 1.0
#: what a host is asked for, where its pinned fingerprint does not tell of which kind its key is
_KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)


#: descriptor of what it says to a command that is to lead to a host
_proxies: dict[int, Proxy] = {}
#: each one ends a command with the connection over it
_ends: set[asyncio.Task[None]] = set()


class _Keys:
    """What is expected of a host's key, and what it has shown."""

    def __init__(self, way: Way) -> None:
        self._way = way
        #: fingerprint that is pinned; None: a file tells
        self.fingerprint: str | None = None
        #: kinds of keys to ask for, in turn; None: by what is known of it
        self.kinds: tuple[tuple[str, ...] | None, ...] = (None,)
        #: of the kind ``KnownHostsArg``: empty for the user's own
        self.known: Any = ()
        self.shown: asyncssh.SSHKey | None = None
        pin = way.host_key
        if pin is None:
            return
        import asyncssh

        if pin.startswith("SHA256:"):
            self.fingerprint, self.kinds = pin, _KINDS
            self.known = ([], [], [])
        elif " " in pin.strip():
            try:
                key = asyncssh.import_public_key(pin)
            except (asyncssh.KeyImportError, ValueError) as error:
                raise FabricError(
                    f"ssh {way}: host_key={pin!r} is no public key: {error}; try: what "
                    f"ssh-keyscan {way.host} prints, without the host's name"
                ) from None
            self.fingerprint = key.get_fingerprint()
            self.kinds = tuple(k for k in _KINDS if key.get_algorithm() in k) or (_KINDS[2],)
            self.known = ([], [], [])
        else:
            self.known = _path(pin)
            if not Path(self.known).is_file():
                raise FabricError(
                    f"ssh {way}: host_key={pin!r}: there is no such file; try: a public key as in "
                    '"ssh-ed25519 AAAA...", its fingerprint, or a known_hosts file'
                )

    def is_valid(self, key: asyncssh.SSHKey) -> bool:
        """Whether a key that no file knows is the one that is pinned."""
        self.shown = key
        return self.fingerprint is not None and key.get_fingerprint() == self.fingerprint

    def refusal(self, error: Exception) -> FabricError:
        """What is told of a key that is not the right one."""
        way = self._way
        if self.shown is None:
            return FabricError(f"ssh {way}: its host key cannot be verified: {error}")
        kind, mark = self.shown.get_algorithm(), self.shown.get_fingerprint()
        look = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, typed at the host itself"
        if self.fingerprint is not None:
            return FabricError(
                f"ssh {way}: its host key has changed: {self.fingerprint} is pinned, and it shows "
                f"{kind} {mark}: it was installed anew, or another host answers in its place; "
                f"nothing was sent to it; compare: {look}"
            )
        files = "the user's known_hosts" if not self.known else str(self.known)
        if self._is_known(kind):
            return FabricError(
                f"ssh {way}: its host key has changed: {files} has another one, and it shows {kind}"
                f" {mark}: it was installed anew, or another host answers in its place; nothing "
                f"was sent to it; compare: {look}"
            )
        return FabricError(
            f"ssh {way}: its host key is unknown: {files} has none of it, and it shows {kind} "
            f'{mark}; compare: {look}; then: Ssh(..., host_key="{mark}")'
        )

    def _is_known(self, kind: str) -> bool:
        import asyncssh

        files = self.known or _path("~/.ssh/known_hosts")
        with contextlib.suppress(OSError, ValueError):
            keys = asyncssh.match_known_hosts(files, self._way.host, "", self._way.port)[0]
            return bool(keys)
        return False


async def connect(way: Way, secrets: Secrets) -> asyncssh.SSHClientConnection:
    """Connect to a host; whoever does closes it.

    Nothing is written: neither there, nor in a file of known hosts.

    :raises FabricError: it is not there, or shows another key, or lets nobody in; with the remedy.
    """
    heard = os.memfd_create("proxy", os.MFD_CLOEXEC)
    try:
        connection = await _connect(way, secrets, _Keys(way), heard)
    except BaseException:
        if (proxy := _proxies.pop(heard, None)) is not None:
            proxy.end()
        raise
    else:
        if (proxy := _proxies.pop(heard, None)) is not None:
            task = asyncio.ensure_future(_end_with(connection, proxy))
            _ends.add(task)
            task.add_done_callback(_ends.discard)
        return connection
    finally:
        os.close(heard)


async def _end_with(connection: asyncssh.SSHClientConnection, proxy: Proxy) -> None:
    try:
        await connection.wait_closed()
    finally:
        proxy.end()


async def _connect(
    way: Way, secrets: Secrets, keys: _Keys, heard: int
) -> asyncssh.SSHClientConnection:
    import asyncssh

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(
            self, host: str, addr: str, port: int, key: asyncssh.SSHKey
        ) -> bool:
            return keys.is_valid(key)

        is_answered = False

        def kbdint_auth_requested(self) -> str | None:
            return "" if secrets.password is not None and not self.is_answered else None

        def kbdint_challenge_received(
            self, name: str, instructions: str, lang: str, prompts: Any
        ) -> list[str] | None:
            if not prompts:
                return []
            if self.is_answered:  # it was wrong, and would be again
                return None
            self.is_answered = True
            return [secrets.password or ""] * len(prompts)

    last: Exception | None = None
    for kinds in keys.kinds:
        try:
            async with asyncio.timeout(way.connect_timeout_s):
                return await _open(way, secrets, keys, kinds, Client, heard)
        except asyncssh.HostKeyNotVerifiable as error:
            last = keys.refusal(error)
        except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost) as error:
            if last is None:
                last = FabricError(
                    f"ssh {way}: it cannot be reached: {_words(error)}{await _said(heard)}; try: "
                    f"ssh -v {way.host}"
                )
            if kinds is None:
                break
        except FabricError:
            raise
        except TimeoutError:
            if last is not None:  # a command that leads there does not tell of its end
                break
            raise FabricError(
                f"ssh {way}: no answer within {way.connect_timeout_s:g} s; try: ssh -v {way.host}"
            ) from None
        except asyncssh.PermissionDenied as error:
            raise FabricError(_denied(way, secrets, error)) from None
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise FabricError(
                f"ssh {way}: key {way.identity or 'of the user'} cannot be read: {error}; try: "
                "passphrase_env=, or a key in the agent (ssh-add)"
            ) from None
        except asyncssh.ConfigParseError as error:
            raise FabricError(f"ssh {way}: its configuration is wrong: {error}") from None
        except (OSError, asyncssh.Error) as error:
            if last is not None:  # it has no key of another kind
                break
            raise FabricError(
                f"ssh {way}: it cannot be reached: {_words(error)}{await _said(heard)}; try: "
                f"ssh -v {way.host}"
            ) from None
    assert last is not None
    raise last


async def _open(
    way: Way,
    secrets: Secrets,
    keys: _Keys,
    kinds: tuple[str, ...] | None,
    client: Any,
    heard: int,
) -> asyncssh.SSHClientConnection:
    import asyncssh

    values: dict[str, Any] = {"known_hosts": keys.known, "keepalive_interval": _ALIVE_S}
    if kinds is not None:
        values["server_host_key_algs"] = list(kinds)
    if way.config is not None:
        values["config"] = [_path(path) for path in way.config]
    if way.user is not None:
        values["username"] = way.user
    if way.port is not None:
        values["port"] = way.port
    if way.identity is not None:
        values["client_keys"] = [_path(way.identity)]
        values["agent_path"] = None
    if secrets.passphrase is not None:
        values["passphrase"] = secrets.passphrase
    if secrets.password is not None:
        values["password"] = secrets.password
    if way.jump:
        values["tunnel"] = ",".join(way.jump)
    if way.proxy_command is not None:
        values["proxy_command"] = way.proxy_command
    options = asyncssh.SSHClientConnectionOptions(host=way.host, **values)
    sock = await _socket(way, options, heard)
    hop = None
    try:
        if isinstance(options.tunnel, str):
            hop = values["tunnel"] = await _through(way, options.tunnel, secrets)
        connection = await asyncssh.connect(way.host, sock=sock, client_factory=client, **values)
    except BaseException:
        if sock is not None:
            sock.close()
        if hop is not None:
            hop.abort()
        raise
    if hop is not None:
        connection.set_tunnel(hop)
    return connection


async def _through(way: Way, hosts: str, secrets: Secrets) -> asyncssh.SSHClientConnection:
    """A connection to the last host on the way to another; each one ends with what goes over it.

    They are reached as the user's own ssh reaches them, or as the configuration says that is given.

    :raises FabricError: one of them cannot be reached, or shows another key, or lets nobody in.
    """
    try:
        return await connect(way.through(hosts), Secrets(passphrase=secrets.passphrase))
    except FabricError as error:
        raise FabricError(f"ssh {way}: on the way there: {error}") from None


async def _socket(
    way: Way, options: asyncssh.SSHClientConnectionOptions, heard: int
) -> socket.socket | None:
    """A way to a host that is no connection to its address; None: there is none but that.

    :param heard: descriptor of a file for what a command says that leads there.
    """
    if way.inside:
        return await _inside(way)
    if way.socket is not None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, way.socket)
        except BaseException:
            sock.close()
            raise
        return sock
    # text is a host to go through, which asyncssh does
    if not options.proxy_command or isinstance(options.tunnel, str):
        return None
    # as it is written: what asyncssh has made of it is for no shell
    words = way.proxy_command or options.config.get("ProxyCommand")
    command = str(words)
    for letter, value in (
        ("%h", options.host),
        ("%n", way.host),
        ("%p", str(options.port or 22)),
        ("%r", str(options.username)),
        ("%%", "%"),
    ):
        command = command.replace(letter, value)
    # not by asyncssh, which takes what it prints on standard error as the host's words
    if (former := _proxies.pop(heard, None)) is not None:
        former.end()
    _proxies[heard] = Proxy(command, heard)
    return _proxies[heard].socket


async def _inside(way: Way) -> socket.socket:
    """A connection that begins in a network of an environment."""
    path, place = way.inside
    fabric = await channel.connect(path, f"ssh {way}")
    try:
        family = socket.AF_INET6 if ":" in way.host else socket.AF_INET
        _, fds = await fabric.request("socket", machine=place, family=family)
    finally:
        fabric.close()
    sock = socket.socket(fileno=fds[0])
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (way.host, way.port or 22))
    except BaseException:
        sock.close()
        raise
    return sock


def _denied(way: Way, secrets: Secrets, error: Exception) -> str:
    by = f"key {way.identity}" if way.identity else "the user's keys and agent"
    if secrets.password is not None:
        by += f" and the password in {way.password_env}"
    user = way.user or "the user of this host, or of ssh's configuration"
    return (
        f"ssh {way}: it lets {user} not in by {by}: {_words(error)}; try: ssh {way}, another "
        "user=, identity= or password_env="
    )


async def _said(heard: int) -> str:
    """What a command has said that was to lead there."""
    if (proxy := _proxies.get(heard)) is not None:
        await asyncio.to_thread(proxy.until_ended, _LAST_WORDS_S)
    words = last_line(os.pread(heard, 1 << 16, 0))
    return f"; its proxy_command says: {words}" if words else ""


def _path(path: str) -> str:
    """A path as asyncssh takes it."""
    return str(Path(path).expanduser())


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error).strip() or type(error).__name__


@contextlib.asynccontextmanager
async def connected(way: Way, secrets: Secrets) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection for the time of a block.

    :raises FabricError: see :func:`connect`.
    """
    connection = await connect(way, secrets)
    try:
        yield connection
    finally:
        connection.abort()
