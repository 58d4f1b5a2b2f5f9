"""Directive ``told``: what a command of ours prints, run while the documentation is built.

So a page cannot tell of options that do not exist. The command is a line such as
``pytest-carthage ls --help``; with ``:section:`` only that group of the help is shown.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_MODULES = {"pytest": "pytest", "pytest-carthage": "pytest_carthage"}


class Told(SphinxDirective):
    """Runs the command of its argument and shows what it printed."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"section": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        line = self.arguments[0]
        program, *arguments = shlex.split(line)
        done = subprocess.run(
            [sys.executable, "-m", _MODULES[program], *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={**os.environ, "COLUMNS": "90", "NO_COLOR": "1"},
        )
        text = done.stdout
        if done.returncode:
            raise ExtensionError(f"{line!r} exited with {done.returncode}: {done.stderr}")
        section = self.options.get("section")
        if section is not None:
            _, found, text = text.partition(f"\n{section}:\n")
            if not found:
                raise ExtensionError(f"{line!r} has no section {section!r}")
            text = text.partition("\n\n")[0]
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        return [block]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("told", Told)
    return {"parallel_read_safe": True}
