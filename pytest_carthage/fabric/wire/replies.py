"""What a reply has to look like, by operation: what comes from a machine is foreign input.

The agent lives in a machine, and root there can have it say anything. So a reply is believed to
be one only if it has every field that its operation has, each of its type, and as many
descriptors. What it does not say is never missed later, deep inside of something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_carthage.fabric.wire import frames

#: a type, several of which one has to fit, a list of things of one shape, an object with (at
#: least) these fields, or a function that tells whether a value is one
Shape = Any


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and not {"/", "\0"} & {*value}


_LISTENING = [{"protocol": str, "address": str, "port": int}]
_PROCESSES = [{"pid": int, "ppid": int, "user": str, "state": str, "rss_kib": int, "args": str}]
_ADDRESSES = [{"interface": str, "address": (str, None), "up": bool, "mac": str}]
_ROUTES = [{"destination": str, "via": (str, None), "interface": (str, None)}]

#: operation to the fields of its reply; others are as they are
_FIELDS: Mapping[str, Mapping[str, Shape]] = {
    # of an agent
    "channel": {"operations": [str]},
    "run": {"job": int, "pid": int},
    "sftp": {"job": int, "pid": int},
    "wait": {"status": int},
    "stat": {"mode": int, "uid": int, "gid": int, "size": int, "mtime": (float, int)},
    "listdir": {"names": [_is_file_name]},
    "lookup": {"address": str},
    "connect": {"address": str},
    "datagrams": {"address": str},
    "listen": {"listener": int, "address": str, "port": int},
    "settings": {"changed": dict},
    "holders": {"holders": [{"pid": int, "args": str, "is_piped": bool, "is_ending": bool}]},
    "listening": {"listening": _LISTENING},
    "observe": {
        "hostname": str,
        "processes": _PROCESSES,
        "listening": _LISTENING,
        "addresses": _ADDRESSES,
        "routes": _ROUTES,
    },
    # of a fabric
    "machines": {"made": dict, "failed": dict},
    "attach": {"pid": int},
    "start": {"pid": int},
    "booted": {"booted": bool},
    "ended": {"how": str, "status": int, "at_s": (float, int), "last": str},
    "oom": {"kills": int},
    "root": {"path": str},
    "spawn": {"pid": int},
    "inside": {"status": int},
    "tunnel": {"interface": str},
    "disturb": {"number": int},
    "status": {"machines": dict, "networks": [str]},
    # of a recorder of consoles
    "console": {"is_connected": bool, "others": int},
}
#: operations whose reply comes with one descriptor
_WITH_DESCRIPTOR = frozenset(
    {"connect", "datagrams", "console", "open", "socket", "station", "tap", "underlay"}
)


def check(op: str, fields: Mapping[str, Any], reply: frames.Message, fds: int) -> None:
    """Refuse a reply that is none to this request.

    :param fields: what was asked, beside the operation.
    :param fds: number of descriptors that it came with.
    :raises frames.Malformed: it is none, with what is wrong with it.
    """
    if type(reply.get("ok")) is not bool:
        raise frames.Malformed(f"a reply to {op!r} that is neither granted nor refused")
    if not reply["ok"]:
        wrong = _mismatch(reply, {"error": str, "errno": (int, None)})
        wanted_fds = 0
    else:
        wrong = _mismatch(reply, _FIELDS.get(op, {}))
        wanted_fds = int(op in _WITH_DESCRIPTOR)
        if op == "run":
            wanted_fds = int(bool(fields.get("tty")))
        elif op == "socket" and fields.get("host") is not None:
            wrong = wrong or _mismatch(reply, {"address": str})
    if wrong:
        raise frames.Malformed(f"a reply to {op!r} whose {wrong}")
    if fds != wanted_fds:
        raise frames.Malformed(f"a reply to {op!r} with {fds} descriptors instead of {wanted_fds}")


def _mismatch(value: Any, shape: Shape, path: str = "") -> str | None:
    """What in a value is not of a shape; None: it is."""
    if isinstance(shape, dict):  # a Mapping takes several times as long, for each reply
        if not isinstance(value, dict):
            return f"{path or 'content'} is no object"
        for name, inner in shape.items():
            if name not in value:
                return f"{path}{'.' if path else ''}{name} is missing"
            if type(value[name]) is inner:
                continue
            wrong = _mismatch(value[name], inner, f"{path}{'.' if path else ''}{name}")
            if wrong:
                return wrong
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{path} is no list"
        for item in value:
            wrong = _mismatch(item, shape[0], f"{path}[]")
            if wrong:
                return wrong
        return None
    if isinstance(shape, tuple):
        fits = any(_mismatch(value, inner) is None for inner in shape)
    elif shape is None:
        fits = value is None
    elif isinstance(shape, type):
        fits = type(value) is shape  # a bool is no number here
    else:
        is_one: Callable[[object], bool] = shape
        fits = is_one(value)
    return None if fits else f"{path} is {value!r:.40}"
