"""What waits and what is awaited, mixed up: Python's own errors get a note on what to write.

The two faces of a live object have the same operations. Python only says that one of them gave
what cannot be awaited, or cannot be entered by ``with``.
"""

from __future__ import annotations

import ast
import linecache
from typing import TYPE_CHECKING

from pytest_carthage.bridge import Blocks, TwoFaced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType, TracebackType

__all__ = ["explain"]

_AIO = "aio"


def explain(error: BaseException) -> None:
    """Note what was meant on an error of Python's, where a face of ours was taken for the other."""
    if type(error) not in (TypeError, AttributeError) or error.__traceback__ is None:
        return
    entry: TracebackType = error.__traceback__
    while entry.tb_next is not None:
        entry = entry.tb_next
    for note in _notes(str(error), entry):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        return


def _notes(message: str, entry: TracebackType) -> Iterator[str]:
    frame, line = entry.tb_frame, entry.tb_lineno
    nodes = list(_nodes_at(frame.f_code.co_filename, line))
    if "can't be used in 'await' expression" in message:
        awaited = (node.value for node in nodes if isinstance(node, ast.Await))
        for operation in _operations(awaited, frame):
            if not _is_awaited(operation):
                yield f"{_text(operation)} waits by itself; in async code: await {_aio(operation)}"
    elif "context manager protocol" in message:
        for node in nodes:
            if not isinstance(node, ast.With | ast.AsyncWith):
                continue
            for operation in _operations((item.context_expr for item in node.items), frame):
                plain, aio = f"with {_plain(operation)}", f"async with {_aio(operation)}"
                if isinstance(node, ast.With) and _is_awaited(operation):
                    yield f"{_text(operation)} is for async code: {aio}, or {plain}"
                elif isinstance(node, ast.AsyncWith) and not _is_awaited(operation):
                    yield f"{_text(operation)} is for code that waits: {plain}, or {aio}"
    elif message.startswith("'coroutine' object"):
        for operation in _operations(nodes, frame):
            if _is_awaited(operation):
                yield f"{_text(operation)} is awaited: (await {_text(operation)})"


def _nodes_at(file: str, line: int) -> Iterator[ast.AST]:
    """What a line of a file is made of."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        first = getattr(node, "lineno", None)
        if first is not None and first <= line <= (getattr(node, "end_lineno", None) or first):
            yield node


def _operations(nodes: Iterable[ast.AST], frame: FrameType) -> Iterator[ast.Attribute]:
    """Operations of live objects that are called, as ``shop.web.run``."""
    for node in nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        root: ast.AST = node.func
        while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
            root = root.func if isinstance(root, ast.Call) else root.value
        if isinstance(root, ast.Name):
            owner = frame.f_locals.get(root.id, frame.f_globals.get(root.id))
            if isinstance(owner, Blocks | TwoFaced):
                yield node.func


def _is_awaited(operation: ast.Attribute) -> bool:
    return any(isinstance(one, ast.Attribute) and one.attr == _AIO for one in ast.walk(operation))


def _text(operation: ast.expr) -> str:
    return f"{ast.unparse(operation)}(...)"


def _plain(operation: ast.Attribute) -> str:
    """It for callers that wait."""
    return _text(operation).replace(f".{_AIO}.", ".")


def _aio(operation: ast.Attribute) -> str:
    """It for async code."""
    if _is_awaited(operation):
        return _text(operation)
    owner = ast.Attribute(value=operation.value, attr=_AIO)
    return _text(ast.Attribute(value=owner, attr=operation.attr))
