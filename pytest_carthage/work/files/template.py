"""Text of a Jinja2 template, whose every variable must be there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_carthage.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["render"]


def render(source: Path, variables: Mapping[str, Any], reads: Callable[[Path], None]) -> str:
    """Render a template; others that it includes are of the same folder.

    :param reads: is told of each file that is read, or looked for.
    :raises TaskError: with the file, the line and what is wrong there.
    """
    import jinja2

    folder = source.parent

    def load(name: str) -> tuple[str, str, Callable[[], bool]] | None:
        path = folder / name
        reads(path)  # also one that is not there: another may stand in for it until it is
        try:
            text = path.read_text()
        except OSError:
            return None
        return text, str(path), lambda: True

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # no markup: configuration files
    )
    names = ", ".join(sorted(variables)) or "none"
    try:
        return environment.get_template(source.name).render(variables)
    except jinja2.UndefinedError as error:
        raise TaskError(
            f"template {_where(source, error)}: {error.message}; the variables are: {names}; "
            "try: template(..., variables={...}), or a field of the role"
        ) from error
    except jinja2.TemplateSyntaxError as error:
        raise TaskError(f"template {error.filename}:{error.lineno}: {error.message}") from error
    except jinja2.TemplateNotFound as error:
        raise TaskError(f"template {source}: there is no {folder / str(error)}") from error
    except Exception as error:  # a filter's or an expression's own
        raise TaskError(
            f"template {_where(source, error)}: {type(error).__name__}: {error}"
        ) from error


def _where(source: Path, error: Exception) -> str:
    """The template's file and line that an exception came from."""
    line: int | None = None
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.endswith(f"/{source.name}"):
            source, line = type(source)(name), trace.tb_lineno
        trace = trace.tb_next
    return f"{source}:{line}" if line else str(source)
