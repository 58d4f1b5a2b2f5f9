"""Ansible's modules as a machine's Python gets them: with their code compiled.

A module comes as a program that holds an archive of some sixty Python files, each of which every
task compiles anew: a third of its time. Here the interpreter that is to run them, or one of its
version on this host, compiles each file once, and the result is put beside its source into the
archive, where zipimport looks for it first.
It is the same code of the same interpreter; whoever finds that it is another's takes the source.

This is loaded into ``ansible-playbook``: it needs nothing but the standard library.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMPILER", "Compiled", "interpreter_of"]

#: the archive of a module, in all versions of ansible-core since 2.14
_ARCHIVE = re.compile(
    rb"""(?:zip_data=|ZIPDATA = )(?P<quote>'|\"{3})(?P<data>[A-Za-z0-9+/=]+)(?P=quote)"""
)
#: what stands before it; a program without is none of Ansible's
_MARK = b"_ANSIBALLZ_WRAPPER = True"
_INTERPRETER = re.compile(
    r"""(?:^|[\s'";])(/[^\s'";|&<>$`\\]*python[0-9.]*)['\"]*(?:\s+&&\s+sleep 0)?['"]*$"""
)
#: tells what its bytecode begins with, and compiles each file of an archive that comes by standard
#: input: what comes back is an archive of files that nobody compares with their sources (PEP 552)
COMPILER = """
import importlib.util, io, marshal, sys, zipfile
magic = importlib.util.MAGIC_NUMBER
given = sys.stdin.buffer.read()
made = io.BytesIO()
with zipfile.ZipFile(made, "w") as target:
    target.comment = magic
    if given:
        sources = zipfile.ZipFile(io.BytesIO(given))
        for name in sources.namelist():
            source = sources.read(name)
            try:
                code = compile(source, name, "exec", dont_inherit=True)
            except Exception:
                continue  # its own importer says why
            head = magic + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
            target.writestr(name, head + marshal.dumps(code))
sys.stdout.buffer.write(made.getvalue())
"""

_COMPILE_S = 120


def interpreter_of(command: str) -> str | None:
    """Path of the Python that a command hands its standard input to; None: it is none of ours."""
    match = _INTERPRETER.search(command)
    return match[1] if match else None


class Compiled:
    """What has been compiled for the machines of one environment: files in a folder of its own.

    Whoever works at the same time has the same folder; a file is whole when it has its name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def program(
        self, program: bytes, interpreter: str, run: Callable[[bytes], bytes | None]
    ) -> bytes:
        """The program with its archive's code compiled; itself, where that cannot be.

        :param interpreter: which Python of which machine; what that is, is asked once.
        :param run: has that interpreter run :data:`COMPILER` with an input, and returns what it
            prints; None: it could not.
        """
        match = _ARCHIVE.search(program) if _MARK in program[:1000] else None
        if match is None:
            return program
        try:
            magic = self._magic(interpreter, run)
            if magic is None:
                return program
            is_ours = magic == importlib.util.MAGIC_NUMBER.hex()
            data = self._compiled(match["data"], self.folder / magic, _run_here if is_ours else run)
        except (OSError, zipfile.BadZipFile, zlib.error, binascii.Error):
            return program
        if data is None:
            return program
        return program[: match.start("data")] + data + program[match.end("data") :]

    def _magic(self, interpreter: str, run: Callable[[bytes], bytes | None]) -> str | None:
        """What the bytecode of an interpreter begins with."""
        path = self.folder / f"{_name(interpreter.encode())}.magic"
        known = _read(path)
        if known is not None:
            return known.decode()
        answer = run(b"")
        if answer is None:
            return None
        magic = zipfile.ZipFile(io.BytesIO(answer)).comment.hex()
        _write(path, magic.encode())
        return magic

    def _compiled(
        self, archive: bytes, folder: Path, run: Callable[[bytes], bytes | None]
    ) -> bytes | None:
        """An archive, in base64, with compiled files beside its sources."""
        # within one run of Ansible, a module's archive is the same for all tasks and machines
        same = folder / f"{_name(archive)}.same"
        data = _read(same)
        if data is not None:
            return data
        whole = self._whole(archive, folder, run)
        if whole is None:
            return None
        with contextlib.suppress(OSError):  # another worker was faster
            same.hardlink_to(whole)
        return _read(whole)

    def _whole(
        self, archive: bytes, folder: Path, run: Callable[[bytes], bytes | None]
    ) -> Path | None:
        """The file that holds an archive, in base64, with what was compiled."""
        sources = zipfile.ZipFile(io.BytesIO(base64.b64decode(archive)))
        files = {entry.filename: sources.read(entry) for entry in sources.infolist()}
        names = {name: _name(name.encode() + b"\0" + content) for name, content in files.items()}
        # each run of Ansible dates the same files anew
        whole = folder / f"{_name(' '.join(names.values()).encode())}.zip"
        if whole.exists():
            return whole
        code = {name: _read(folder / names[name]) for name in files if name.endswith(".py")}
        missing = [name for name, compiled in code.items() if compiled is None]
        if missing:
            answer = run(_archive({name: files[name] for name in missing}))
            if answer is None:
                return None
            made = zipfile.ZipFile(io.BytesIO(answer))
            for name in made.namelist():
                code[name] = made.read(name)
                _write(folder / names[name], made.read(name))
        new = io.BytesIO()
        with zipfile.ZipFile(new, "w") as target:
            for entry in sources.infolist():
                target.writestr(entry, files[entry.filename], zipfile.ZIP_DEFLATED)
                compiled = code.get(entry.filename)
                if compiled is not None:
                    beside = zipfile.ZipInfo(f"{entry.filename}c", entry.date_time)
                    target.writestr(beside, compiled, zipfile.ZIP_DEFLATED, 1)
        _write(whole, base64.b64encode(new.getvalue()))
        return whole


def _run_here(given: bytes) -> bytes | None:
    """The same by the Python that runs this, of the same version: a machine may be slow."""
    argv = [sys.executable, "-I", "-S", "-c", COMPILER]
    done = subprocess.run(argv, input=given, capture_output=True, timeout=_COMPILE_S, check=False)
    return None if done.returncode else done.stdout


def _archive(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name, source in files.items():
            target.writestr(name, source)
    return archive.getvalue()


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    try:
        new.write_bytes(data)
        new.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
