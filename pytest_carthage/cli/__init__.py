"""The command ``pytest-carthage``: one module per command.

A command module has ``add(commands)``, which adds its parser with ``run`` as default, and
``run(arguments)``, which returns the exit status: 0 it worked, 1 it failed, 2 wrong usage
(``exec`` and ``shell`` pass on the status of what ran). What costs time is imported in ``run``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from pytest_carthage.cli import (
    ansible,
    bundle,
    console,
    doctor,
    exec_,
    gc,
    graph,
    images,
    import_,
    inventory,
    leases,
    lock,
    logs,
    ls,
    plan,
    rm,
    run_,
    shell,
    ssh_config,
    unbundle,
    up,
    view,
)
from pytest_carthage.cli.usage import Parser, Usage, Version
from pytest_carthage.errors import CarthageError, LayoutError, StateError

__all__ = ["main"]

_EPILOG = """\
MACHINE is the name of a machine (when only one live environment has such a one), or
ENVIRONMENT/MACHINE; of an environment's name, as much as is needed to tell it apart.

exit status: 0 it worked, 1 it failed, 2 wrong usage; `exec` passes on the command's own.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="pytest-carthage",
        description="Look at, enter and remove live layouts and images; build them without tests.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=Version, nargs=0)
    commands = parser.add_subparsers(metavar="COMMAND")
    building = (up, plan, import_, images, lock, bundle, unbundle)
    looking = (ls, shell, exec_, ssh_config, inventory, ansible, run_, logs, console, view, graph)
    for module in (*looking, *building, rm, leases, gc, doctor):
        module.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        status = run(arguments)
        sys.stdout.flush()  # a reader that has gone away is noticed here, not at our exit
        return status
    except (Usage, LayoutError) as error:
        return _complain(error, 2)
    except (CarthageError, StateError) as error:
        return _complain(error, 1)
    except BrokenPipeError:
        # whoever read our output has had enough; Python would complain again at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _complain(error, 1)


def _complain(error: Exception, status: int) -> int:
    print(f"pytest-carthage: {error}", file=sys.stderr)
    return status
