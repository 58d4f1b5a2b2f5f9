"""Programs of Ansible's modules, with their code compiled by the Python that runs them."""

from __future__ import annotations

import base64
import importlib.util
import io
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_carthage.work.ansible import payload
from pytest_carthage.work.ansible.payload import COMPILER, Compiled, interpreter_of

#: as it is in ansible-core's newer and older programs
FORMS = ("zip_data='{}'\n", 'ZIPDATA = """{}"""\n')
WRAPPER = """# an arbitrary program around an archive
_ANSIBALLZ_WRAPPER = True
def main(zip_data):
    import base64, os, sys, tempfile
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "payload.zip")
        with open(path, "wb") as file:
            file.write(base64.b64decode(zip_data))
        sys.path.insert(0, path)
        import tool
        tool.say()
"""
TOOL = (
    b"import sys, tool.words\ndef say(): print(tool.words.WORDS, __file__.split('payload.zip')[1])"
)


class Python:
    """The interpreter that runs these tests, as that of a machine; counts what it compiles."""

    def __init__(self, *, works: bool = True, is_other: bool = False) -> None:
        self.works = works
        #: whether it is of another version
        self.is_other = is_other
        self.given: list[list[str]] = []

    def __call__(self, given: bytes) -> bytes | None:
        names = zipfile.ZipFile(io.BytesIO(given)).namelist() if given else []
        self.given.append(names)
        argv = [sys.executable, "-I", "-S", "-c", COMPILER]
        done = subprocess.run(argv, input=given, capture_output=True, check=True)
        if not self.works:
            return None
        if self.is_other:
            return done.stdout.removesuffix(importlib.util.MAGIC_NUMBER) + b"\1\2\r\n"
        return done.stdout


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Python:
    """The Python of this host."""
    python = Python()
    monkeypatch.setattr(payload, "_run_here", python)
    return python


def archive(files: dict[str, bytes], year: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for name, source in files.items():
            target.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), source)
    return base64.b64encode(made.getvalue())


def program(
    form: str = FORMS[0], words: str = "hello", *, year: int = 2026, **more: bytes
) -> bytes:
    files = {"tool/__init__.py": TOOL, "tool/words.py": f"WORDS = {words!r}".encode()}
    files |= {f"tool/{name}.py": source for name, source in more.items()}
    text = WRAPPER + form.format(archive(files, year).decode())
    name = "ZIPDATA" if "ZIPDATA" in form else "zip_data"
    return f"{text}main({name})\n".encode()


def run(text: bytes) -> str:
    done = subprocess.run([sys.executable], input=text, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode().strip()


@pytest.mark.parametrize("form", FORMS)
def test_program_does_the_same_with_code_that_was_compiled(form: str, tmp_path: Path) -> None:
    before = program(form)
    after = Compiled(tmp_path).program(before, "web python3", Python())
    assert run(before) == "hello /tool/__init__.py"
    assert run(after) == "hello /tool/__init__.pyc"


def test_each_file_is_compiled_once_for_all_machines(tmp_path: Path, here: Python) -> None:
    python = Python()
    compiled = Compiled(tmp_path / "new" / "folder")
    first = compiled.program(program(), "web python3", python)
    assert compiled.program(program(), "web python3", python) == first
    assert compiled.program(program(), "db python3", python) == first
    # Ansible dates the same files anew each time that it runs
    assert compiled.program(program(year=2027), "web python3", python) == first
    other = Compiled(compiled.folder).program(program(words="bye"), "db python3", python)
    assert run(other) == "bye /tool/__init__.pyc"
    files = ["tool/__init__.py", "tool/words.py"]
    # nothing: what its bytecode begins with, once for each machine
    assert python.given == [[], []]
    # a machine's processor may be slow
    assert here.given == [files, ["tool/words.py"]]


def test_python_of_another_version_compiles_for_itself(tmp_path: Path, here: Python) -> None:
    python = Python(is_other=True)
    after = Compiled(tmp_path).program(program(), "web python3", python)
    assert run(after) == "hello /tool/__init__.pyc"
    assert python.given == [[], ["tool/__init__.py", "tool/words.py"]]
    assert here.given == []


def test_same_archive_is_opened_once(tmp_path: Path) -> None:
    compiled = Compiled(tmp_path)
    first = compiled.program(program(), "web python3", Python())
    (same,) = tmp_path.rglob("*.same")
    (whole,) = tmp_path.rglob("*.zip")
    assert same.samefile(whole)
    whole.unlink()
    python = Python()
    assert compiled.program(program(), "web python3", python) == first
    assert python.given == []
    assert list(tmp_path.rglob("*.zip")) == []


def test_same_source_elsewhere_is_another_file(tmp_path: Path, here: Python) -> None:
    python = Python()
    Compiled(tmp_path).program(program(a=b"import missing"), "web python3", python)
    Compiled(tmp_path).program(program(b=b"import missing"), "web python3", python)
    assert here.given[-1] == ["tool/b.py"]


def test_code_of_another_python_is_passed_over(tmp_path: Path) -> None:
    after = Compiled(tmp_path).program(program(), "web python3", Python())
    data = after.split(b"zip_data='")[1].split(b"'")[0]
    foreign = io.BytesIO()
    with zipfile.ZipFile(foreign, "w") as target:
        for entry in (old := zipfile.ZipFile(io.BytesIO(base64.b64decode(data)))).infolist():
            content = old.read(entry)
            is_code = entry.filename.endswith(".pyc")
            target.writestr(entry, b"\1\2\r\n" + content[4:] if is_code else content)
    text = after.replace(data, base64.b64encode(foreign.getvalue()))
    assert run(text) == "hello /tool/__init__.py"


def test_mistake_in_a_file_is_told_as_ever(tmp_path: Path) -> None:
    before = program(words="x", extra=b"def (")
    after = Compiled(tmp_path).program(before, "web python3", Python())
    assert run(after) == "x /tool/__init__.pyc"
    broken = before.replace(b"import tool\n", b"import tool.extra as tool\n")
    for text in (broken, Compiled(tmp_path).program(broken, "web python3", Python())):
        assert "SyntaxError: invalid syntax" in run(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"print('no module of Ansible')",
        b"zip_data='UEsDBA=='",
        b"_ANSIBALLZ_WRAPPER = True\n",
        b"_ANSIBALLZ_WRAPPER = True\nzip_data='UEsDBA=='\n",
        b"_ANSIBALLZ_WRAPPER = True\nzip_data='x'\n",
        b"#\n" * 1000 + program(),
    ],
)
def test_what_is_no_module_stays_as_it_is(text: bytes, tmp_path: Path) -> None:
    assert Compiled(tmp_path).program(text, "web python3", Python()) == text


def test_python_that_compiles_nothing_gets_the_sources(tmp_path: Path) -> None:
    python = Python(works=False)
    for _ in range(2):
        assert Compiled(tmp_path).program(program(), "web python3", python) == program()
    assert python.given == [[], []]


def test_folder_that_nobody_can_write_is_no_failure(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert Compiled(file).program(program(), "web python3", Python()) == program()


def test_workers_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    programs = [program(words=f"number {number}") for number in range(4)] * 3
    with ThreadPoolExecutor(6) as pool:
        made = list(
            pool.map(
                lambda text: Compiled(tmp_path).program(text, "web python3", Python()), programs
            )
        )
    assert len(set(made)) == 4
    assert [run(text) for text in made[:4]] == [
        f"number {number} /tool/__init__.pyc" for number in range(4)
    ]
    kinds = ("", ".zip", ".same", ".magic")
    assert not [path for path in tmp_path.rglob("*") if path.suffix not in kinds]


@pytest.mark.parametrize(
    ("command", "interpreter"),
    [
        ("/bin/sh -c '/usr/bin/python3 && sleep 0'", "/usr/bin/python3"),
        ("/bin/sh -c 'LANG=C /opt/py/bin/python3.11 && sleep 0'", "/opt/py/bin/python3.11"),
        (
            "/bin/sh -c 'sudo -H -S -n  -u db /bin/sh -c '\"'\"'echo BECOME-SUCCESS-abc ; "
            "/usr/bin/python3'\"'\"' && sleep 0'",
            "/usr/bin/python3",
        ),
        ("/bin/sh -c '( umask 77 && mkdir -p \"` echo /tmp `\" ) && sleep 0'", None),
        ("/bin/sh -c '/usr/bin/perl && sleep 0'", None),
        ("/bin/sh -c 'python3 && sleep 0'", None),
        ("/bin/sh -c '/usr/bin/python3 /tmp/x.py && sleep 0'", None),
    ],
)
def test_interpreter_of_a_command(command: str, interpreter: str | None) -> None:
    assert interpreter_of(command) == interpreter
