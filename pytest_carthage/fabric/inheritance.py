"""What processes have from whoever started them, see fork(2) and execve(2): here, a server's.

Tests are started by people and by CI's runners: under nice(1) or in the background, with limits
and a umask of their own, and with tokens and keys in their environment. Nothing of that is to be
seen in a machine. So a supervisor, which all of a run descends from, and a workshop, in which
images are built, put off all of it first, and what they start has what a server's first process
gives.

Not everybody may take back what was taken from him: what the kernel refuses stays, and is told.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pytest_carthage.fabric import descent
from pytest_carthage.fabric import syscalls as sys_

_UNLIMITED = resource.RLIM_INFINITY
#: open files, soft: no more than select(2) takes; a default of systemd's, as the next
FILES = 1024
_MOST_FILES = 524_288
#: limits that are the same everywhere, see getrlimit(2): soft and hard
_LIMITS = {
    resource.RLIMIT_CPU: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_FSIZE: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_DATA: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_STACK: (8 << 20, _UNLIMITED),
    resource.RLIMIT_CORE: (0, _UNLIMITED),
    resource.RLIMIT_RSS: (_UNLIMITED, _UNLIMITED),
    # the fabric's own: it has several for each machine
    resource.RLIMIT_NOFILE: (_MOST_FILES, _MOST_FILES),
    resource.RLIMIT_MEMLOCK: (8 << 20, 8 << 20),
    resource.RLIMIT_AS: (_UNLIMITED, _UNLIMITED),
    descent.RLIMIT_LOCKS: (_UNLIMITED, _UNLIMITED),
    resource.RLIMIT_MSGQUEUE: (819_200, 819_200),
    resource.RLIMIT_NICE: (0, 0),
    resource.RLIMIT_RTPRIO: (0, 0),
    resource.RLIMIT_RTTIME: (_UNLIMITED, _UNLIMITED),
}
_NAMES = {
    number: name
    for name, number in vars(resource).items()
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
#: half of the threads that the kernel takes, as it gives to its first process
_BY_THREADS = (resource.RLIMIT_NPROC, resource.RLIMIT_SIGPENDING)
#: of names in /proc/PID/limits
_NAME_WIDTH = 26
_THREADS = "/proc/sys/kernel/threads-max"
#: all signals but those that Python ignores, and restores itself for what it executes; as numbers:
#: to look them up in an enumeration touches many pages
_CATCHABLE = tuple(
    int(number)
    for number in signal.valid_signals()
    - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
)
#: of /proc/PID/status, see there: what a process has for good
_FOR_GOOD = {"NoNewPrivs": "no new privileges", "Seccomp": "a filter of system calls"}
#: of a host's environment: what its own programs need of it to find their files, and their way out
_OF_PROGRAMS = frozenset(
    "HOME USER LOGNAME TMPDIR TZ XDG_RUNTIME_DIR XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME"
    " http_proxy https_proxy ftp_proxy all_proxy no_proxy"
    " HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY"
    " SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE APT_CONFIG SOURCE_DATE_EPOCH"
    " REGISTRY_AUTH_FILE DOCKER_CONFIG CONTAINERS_CONF CONTAINERS_REGISTRIES_CONF"
    " CONTAINERS_STORAGE_CONF STORAGE_DRIVER STORAGE_OPTS BUILDAH_ISOLATION".split()
)
#: what is in a core: memory of its own and its program's first pages, see core(5)
_CORE_FILTER = "0x33"


def put_off() -> list[str]:
    """Have the calling process, and all that it starts, have nothing of its starter's.

    Descriptors and environment are the business of who starts it.

    :returns: what the kernel refused to give back, in words.
    """
    os.umask(0o022)
    put_off_signals()
    kept = _kept_for_good()
    for what, give_back in _GIVE_BACK.items():
        try:
            give_back()
        except OSError as error:
            kept.append(f"{what} ({error.strerror or error})")
    for number, limit in _limits().items():
        if not _limit(number, limit):
            kept.append(f"{_NAMES.get(number, number)} of {resource.getrlimit(number)[1]}")
    return kept


def put_off_signals() -> None:
    """Have no signal blocked or ignored: who starts so cannot trap it, see sh(1p).

    :mod:`signal` is not told, and SIGPIPE and SIGXFSZ are left to Python.
    """
    sys_.default_signals(_CATCHABLE)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def environment() -> dict[str, str]:
    """Of this process's environment, what a program of the host needs: none of its secrets."""
    return {name: value for name, value in os.environ.items() if name in _OF_PROGRAMS}


def _kept_for_good() -> list[str]:
    with open("/proc/self/status", errors="replace") as file:
        rows = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return [words for name, words in _FOR_GOOD.items() if rows.get(name, "0").strip() != "0"]


def _limits() -> Mapping[int, tuple[int, int]]:
    try:
        with open(_THREADS) as file:
            threads = int(file.read()) // 2
    except OSError:
        return _LIMITS
    return {**_LIMITS, **dict.fromkeys(_BY_THREADS, (threads, threads))}


def _limit(number: int, wanted: tuple[int, int]) -> bool:
    """Set a limit, or come as near to it as may be; returns whether it is what is wanted."""
    try:
        resource.setrlimit(number, wanted)
    except (OSError, ValueError):  # only a host's administrator raises the hard one
        hard = resource.getrlimit(number)[1]
        resource.setrlimit(number, (_least(wanted[0], hard), hard))
        return False
    return True


def _least(*values: int) -> int:
    return min(values, key=lambda value: float("inf") if value == _UNLIMITED else value)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


#: the scheduler first: of some, only it may be raised
_GIVE_BACK: Mapping[str, Callable[[], object]] = {
    "scheduler": lambda: os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)),
    "niceness": lambda: os.setpriority(os.PRIO_PROCESS, 0, 0),
    "priority of I/O": sys_.reset_io_priority,
    "processors": lambda: os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF"))),
    "oom_score_adj": lambda: _write("/proc/self/oom_score_adj", "0"),
    "coredump_filter": lambda: _write("/proc/self/coredump_filter", _CORE_FILTER),
    "personality": sys_.reset_personality,
    "rules of capabilities": sys_.reset_capability_rules,
    "keyring": sys_.leave_keyring,
    "timer slack": sys_.reset_timer_slack,
}


@contextmanager
def few_files(most: int = FILES) -> Iterator[None]:
    """Have what the calling process starts in the block have as many open files as on a server.

    Processes of ours have more: the kernel counts descriptors that are on their way by them, see
    :class:`~pytest_carthage.fabric.wire.frames.Crowded`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_least(most, soft, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def take_over(pid: int) -> int:
    """Have the limits of a process that somebody else has started, and given these.

    :returns: how many files it may have open.
    """
    files = FILES
    with open(f"/proc/{pid}/limits") as lines:
        # in the order of their numbers, see fs/proc/base.c
        for number, line in enumerate([*lines][1:]):
            soft, hard = (
                int(word) if word.isdecimal() else _UNLIMITED
                for word in line[_NAME_WIDTH:].split()[:2]
            )
            if number == resource.RLIMIT_NOFILE:
                files, soft = soft, hard
            _limit(number, (soft, hard))
    return files
