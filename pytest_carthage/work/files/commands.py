"""Commands that are run among files."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from pytest_carthage import clock
from pytest_carthage.bridge import operation
from pytest_carthage.channels.agent import (
    MOST_OUTPUT_BYTES,
    Interrupted,
    Overflowed,
    Unanswered,
    execute,
)
from pytest_carthage.errors import CommandError, FabricError, OutputLimitError, TimeLimitError
from pytest_carthage.handles.encoding import decoded, encoding_of, printable
from pytest_carthage.handles.result import Result
from pytest_carthage.work.files.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CommandOperations"]

_RUN_S = 300.0
_LOOK_S = 10.0
#: characters of a line of output that a message shows
_LINE = 500


class CommandOperations(Subject):
    """Running commands."""

    @operation
    async def run(
        self,
        command: str | Sequence[str | os.PathLike[str]],
        *,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,
        timeout_s: float | None = _RUN_S,
        check: bool = True,
        secret: bool = False,
        most_output_mib: int | None = MOST_OUTPUT_BYTES >> 20,
    ) -> Result:
        """Run a command in the machine and wait for its end.

        :param command: text for ``/bin/sh -c``, or a sequence of arguments.
        :param user: name or number; root by default.
        :param cwd: working folder; the user's home by default.
        :param env: added to the machine's environment.
        :param input: standard input; empty by default.
        :param timeout_s: None: for ever.
        :param check: raise when the exit status is not 0.
        :param secret: keep its input and output out of every record: :attr:`commands`, messages,
            events, bundles. The command itself is kept, and any program of the machine can see it
            with its arguments: hand over secrets by ``input`` or ``env``.
        :param most_output_mib: what it may print, in MiB of standard output and standard error
            together; None: any amount, for which there has to be memory here.
        :raises CommandError: the exit status is not 0, or the program is missing.
        :raises TimeLimitError: it did not end in time, with the output so far; it was killed.
        :raises OutputLimitError: it printed more than it may, with the output so far; it was
            killed.
        """
        argv = (
            ["/bin/sh", "-c", command]
            if isinstance(command, str)
            else [os.fspath(word) for word in command]
        )
        if not argv:
            raise ValueError(f"{self._who}: an empty sequence is no command")
        kept = command if isinstance(command, str) else tuple(argv)
        data = input.encode() if isinstance(input, str) else input
        started_at, begin = clock.unix_s(), clock.monotonic_s()

        def result(
            status: int, stdout: bytes, stderr: bytes, *, left_running: tuple[str, ...] = ()
        ) -> Result:
            encoding, texts = decoded(encoding_of({**self.locale, **(env or {})}), stdout, stderr)
            made = Result(
                machine=self.name,
                command=kept,
                status=status,
                stdout=texts[0],
                stderr=texts[1],
                encoding=encoding,
                started_at=started_at,
                duration_s=clock.monotonic_s() - begin,
                user=user,
                secret=secret,
                left_running=left_running,
            )
            self.commands.append(made.record)
            return made

        try:
            ended = await execute(
                self.channel,
                argv,
                user=user,
                cwd=cwd,
                env=env or {},
                input=data,
                timeout_s=timeout_s,
                most_output_bytes=None if most_output_mib is None else most_output_mib << 20,
            )
            done = result(*ended, left_running=ended.held_by)
        except Overflowed as overflowed:
            cut = result(-9, overflowed.stdout, overflowed.stderr)
            raise OutputLimitError(
                f"{self._who}: {cut.text!r} printed more than {most_output_mib} MiB, did not end "
                f"and was killed after {cut.duration_s:.2f} s; have it print less or into a file, "
                f"or give it most_output_mib=...; {_printed(cut, 'it printed')}",
                cut,
            ) from None
        except Unanswered as unanswered:
            cut = result(-9, unanswered.stdout, unanswered.stderr)
            raise TimeLimitError(
                f"{self._who}: {cut.text!r} did not end in {timeout_s:g} s, and the machine does "
                "not answer: it was stopped, or this host has no time for it; whether the command "
                f"goes on is not known; {_printed(cut, 'output so far')}"
                f"{await self._why(cut, None)}{await self._last_words()}"
            ) from None
        except Interrupted as interrupted:
            cut = result(-9, interrupted.stdout, interrupted.stderr)
            raise TimeLimitError(
                f"{self._who}: {cut.text!r} did not end in {timeout_s:g} s and was killed; "
                f"{_printed(cut, 'output so far')}{await self._why(cut, None)}"
            ) from None
        except FabricError as error:
            if error.errno not in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC):
                raise
            status = 127 if error.errno == errno.ENOENT else 126
            done = result(status, b"", str(error).encode())
        if check and not done.ok:
            account = f" as {user}" if user else ""
            raise CommandError(
                f"{self._who}: {done.text!r}{account} exited with status {done.status} "
                f"after {done.duration_s:.2f} s; {_printed(done, 'it printed')}"
                + await self._missed(done)
                + await self._why(done, done.status),
                done,
            )
        return done

    async def _why(self, done: Result, status: int | None) -> str:
        """What went on meanwhile, a line for each thing; or nothing."""
        lines = await self.circumstances(done.started_at, status=status)
        return "".join(f"\n{line}" for line in lines)

    async def _missed(self, done: Result) -> str:
        """Why a file is not there that a command has missed, on a line of its own; or nothing."""
        printed = f"{done.stderr}\n{done.stdout}"
        if done.secret or "/usr/share/" not in printed:
            return ""
        from pytest_carthage.work import left_out

        with contextlib.suppress(FabricError):
            argv = ["cat", str(left_out.FILE)]
            ended = await execute(
                self.channel, argv, user=None, cwd=None, env={}, input=None, timeout_s=_LOOK_S
            )
            kinds = left_out.left_out(ended[1].decode(errors="replace"))
            if text := left_out.advice(printed, kinds):
                return f"\n{text}"
        return ""


def _printed(result: Result, words: str, lines: int = 20) -> str:
    """The end of what a command printed, for a message."""
    if result.secret:
        return "what it printed is secret"
    # of an end that is long enough for all that is shown: it may be the end of very much
    ends = (text[-lines * 2 * _LINE :].rstrip() for text in (result.stdout, result.stderr))
    text = "\n".join(part for part in ends if part)
    kept = text.splitlines()[-lines:]
    cut = (line if len(line) <= _LINE else f"{line[:_LINE]} ..." for line in kept)
    return f"{words}:\n" + (printable("\n".join(f"  {line}" for line in cut)) or "  (nothing)")
