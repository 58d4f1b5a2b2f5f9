"""Content keys: the same for what would have the same effect."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

__all__ = ["function_key"]


def function_key(function: Callable[..., Any]) -> str:
    """Key of a function, by its own source text (hexadecimal SHA-256).

    An edit elsewhere in the file leaves it as it is. Where there is no source (a function typed
    into an interpreter), its byte code stands in.
    """
    function = inspect.unwrap(function)
    try:
        content = textwrap.dedent(inspect.getsource(function)).strip().encode()
    except (OSError, TypeError):
        code = function.__code__
        content = repr((code.co_code.hex(), code.co_consts, code.co_names)).encode()
    return hashlib.sha256(content).hexdigest()
