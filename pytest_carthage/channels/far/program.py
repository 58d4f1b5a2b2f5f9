"""The agent as one program, for Python 3.6 or newer and nothing else."""

from __future__ import annotations

import ast
import zlib
from functools import cache
from importlib.resources import files

__all__ = ["BOOTSTRAP", "agent_program", "agent_sent"]

#: of which it is made, each after what it uses
_MODULES = (
    "fabric.descent",
    "fabric.holding",
    "fabric.named_files",
    "channels.far.inside.wire",
    "channels.far.inside.loop",
    "channels.far.inside.streams",
    "channels.far.inside.jobs",
    "channels.far.inside.window",
    "channels.far.inside.contents",
    "channels.far.inside.network",
    "channels.far.inside.looking",
    "channels.far.inside.bus",
    "channels.far.inside.links",
    "channels.far.inside.identity",
    "channels.far.inside.main",
)
_OURS = "pytest_carthage."
#: what is told to a Python far away as its command: the program comes on its standard input, behind
#: its length
BOOTSTRAP = (
    "import os,zlib\n"
    "def take(n):\n"
    " d=b''\n"
    " while len(d)<n:\n"
    "  p=os.read(0,n-len(d))\n"
    "  if not p: os._exit(1)\n"
    "  d+=p\n"
    " return d\n"
    "exec(compile(zlib.decompress(take(int(take(8)))),'agent','exec'),{'__name__':'__main__'})"
)


@cache
def agent_program() -> str:
    """The source of the whole agent; its argument is the port that it serves on, if it is one.

    It is to be run with ``python3 -I -S``.
    """
    parts = [_plain(_source(name)) for name in _MODULES]
    return "\n".join([*parts, "if __name__ == '__main__':\n    main()", ""])


def agent_sent() -> bytes:
    """What is sent to :data:`BOOTSTRAP`."""
    data = zlib.compress(agent_program().encode(), 9)
    return b"%8d" % len(data) + data


def _source(name: str) -> str:
    package, _, module = name.rpartition(".")
    return (files(f"{_OURS}{package}") / f"{module}.py").read_text()


def _plain(source: str) -> str:
    """A module without its annotations, comments, and imports of our own."""
    return ast.unparse(ast.fix_missing_locations(_Plain().visit(ast.parse(source))))


class _Plain(ast.NodeTransformer):
    """Takes away what is there for readers and for type checkers."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        module = node.module or ""
        is_dropped = module.startswith(_OURS) or module in (
            "__future__",
            "typing",
            "collections.abc",
        )
        return None if is_dropped else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        made = ast.Assign(targets=[node.target], value=node.value)
        return self.generic_visit(ast.copy_location(made, node))

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._undocumented(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._undocumented(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._undocumented(node)

    def _undocumented(self, node: ast.FunctionDef | ast.ClassDef | ast.Module) -> ast.AST:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
        self.generic_visit(node)
        return node
