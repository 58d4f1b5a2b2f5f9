"""System calls that no program of a machine may make, whatever its root: see seccomp(2).

They reach what the kernel has once for all: its keys, which belong to user ids that machines have
in common; its log; files and namespaces by their numbers; the hypervisor. Engines of containers
refuse these as well. A program sees a kernel that has no such thing, and does without.
"""

from __future__ import annotations

import errno
import functools
import struct

from pytest_carthage.fabric import seccomp
from pytest_carthage.fabric import syscalls as sys_

#: as a kernel answers that has it not, or to whom it does not answer
_ERRNOS = {
    "add_key": errno.ENOSYS,
    "request_key": errno.ENOSYS,
    "keyctl": errno.ENOSYS,
    "syslog": errno.EPERM,
    "open_by_handle_at": errno.EPERM,
}
#: its number is asked for a family of addresses
_SOCKET = "socket"
_FAMILIES = {40: errno.EAFNOSUPPORT}  # AF_VSOCK
#: its number is asked for what is wanted: the mount namespaces beside one's own
_IOCTL = "ioctl"
_REQUESTS = {0x8010B70B: errno.ENOTTY, 0x8010B70C: errno.ENOTTY}  # NS_MNT_GET_NEXT, ..._PREV

#: their flags are asked for a new control group namespace, in which control groups can be mounted
_MAKERS = ("clone", "unshare")
#: its flags cannot be asked for: as of an old kernel, for which C libraries use the other one
_CLONE3 = 435

_NAMES = (*_ERRNOS, _SOCKET, _IOCTL, *_MAKERS)
_GENERIC = (217, 218, 219, 116, 265, 198, 29, 220, 97)
#: how programs call the kernel (AUDIT_ARCH_*), to the numbers of the calls above
_NUMBERS = {
    0xC000003E: (248, 249, 250, 103, 304, 41, 16, 56, 272),  # x86-64
    0x40000003: (286, 287, 288, 103, 342, 359, 54, 120, 310),  # x86
    0xC00000B7: _GENERIC,  # ARM, 64 bits
    0x40000028: (309, 310, 311, 103, 371, 281, 54, 120, 337),  # ARM
    0xC00000F3: _GENERIC,  # RISC-V
}
#: x86-64 with pointers of 32 bits has the same numbers, with this bit
_X32 = 0x40000000

_LOAD, _EQUAL, _HAS, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _refused(value: int, number: int) -> list[bytes]:
    """Refuse if what was loaded is ``value``."""
    return [_step(_EQUAL, value, no=1), _step(_RETURN, _REFUSE | number)]


def _by_argument(call: int, place: int, *refused: list[bytes]) -> list[bytes]:
    """Look at an argument of a call, and refuse it or not."""
    body = [_step(_LOAD, place), *(step for steps in refused for step in steps)]
    body.append(_step(_RETURN, _ALLOW))
    return [_step(_EQUAL, call, no=len(body)), *body]


@functools.cache
def program(*, groups: bool) -> bytes:
    """The filter that :func:`enter` puts on; kept for processes that are forked later."""
    steps: list[bytes] = []
    for architecture, numbers in _NUMBERS.items():
        calls = dict(zip(_NAMES, numbers, strict=True))
        body = [_step(_LOAD, _NUMBER), _step(_AND, 0xFFFFFFFF ^ _X32)]
        for name, number in _ERRNOS.items():
            body += _refused(calls[name], number)
        for name, place, values in ((_SOCKET, _FIRST, _FAMILIES), (_IOCTL, _SECOND, _REQUESTS)):
            body += _by_argument(calls[name], place, *(_refused(*pair) for pair in values.items()))
        if not groups:
            refuse = _step(_RETURN, _REFUSE | errno.EPERM)
            for name in _MAKERS:
                new = [_step(_HAS, sys_.CLONE_NEWCGROUP, no=1), refuse]
                body += _by_argument(calls[name], _FIRST, new)
            body += _refused(_CLONE3, errno.ENOSYS)
        body.append(_step(_RETURN, _ALLOW))
        steps += [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, architecture, no=len(body)), *body]
    steps.append(_step(_RETURN, _ALLOW))
    return b"".join(steps)


def enter(*, groups: bool) -> None:
    """Have these calls refused to the calling process and all that it starts, for good.

    :param groups: the caller is in control groups that are its own; else it makes no namespace of
        them either.
    :raises OSError: the kernel refused: it takes CAP_SYS_ADMIN in the caller's user namespace.
    """
    with seccomp.loaded(program(groups=groups)) as address:
        sys_.refuse_calls(address)
