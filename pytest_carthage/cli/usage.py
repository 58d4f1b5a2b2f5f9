"""A mistake in how a command was called, and the parser that tells of it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn

__all__ = ["Parser", "Usage", "Version", "similar"]


class Usage(Exception):
    """What was asked for makes no sense, or does not exist; the message says what would."""


def similar(name: str, names: Iterable[str]) -> str:
    """What somebody who mistyped a name may have meant, as the end of a message, or nothing."""
    import difflib

    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


class Parser(argparse.ArgumentParser):
    """A parser that guesses what was meant, and lists its commands where none is given.

    Python's own does so by ``suggest_on_error``, since 3.14, and not for options.
    """

    _commands: Any = None

    def add_subparsers(self, **options: Any) -> Any:
        """Have commands; without one, the help is printed."""
        self.set_defaults(run=self._help)
        self._commands = super().add_subparsers(**options)
        return self._commands

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse here, where the options are known, what a command's parser does not know."""
        arguments, unknown = super().parse_known_args(args, namespace)
        if unknown:
            guess = similar(unknown[0].partition("=")[0], self._options())
            self.error(f"unrecognized arguments: {' '.join(unknown)}{guess}")
        return arguments, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, with a guess, and exit with status 2."""
        choice = re.search(r"invalid choice: '(.*?)' \(", message)
        if choice is not None and self._commands is not None:
            names: Collection[str] = self._commands.choices
            guess = similar(choice[1], names) or f"; there are: {', '.join(names)}"
            message = f"no {str(self._commands.metavar).lower()} {choice[1]!r}{guess}"
        super().error(message)

    def _options(self) -> list[str]:
        return re.findall(r"(?<![\w-])--[\w-]+", self.format_help())

    def _help(self, arguments: argparse.Namespace) -> int:
        self.print_help()
        return 0


class Version(argparse.Action):
    """Print the version of what is installed, and exit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> NoReturn:
        """Print it."""
        from importlib import metadata  # other commands have no use for it

        print(parser.prog, metadata.version("pytest-carthage"))
        parser.exit()
