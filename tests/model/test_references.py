"""What a task's key is made of: all that it refers to, and nothing else."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

HEAD = """
from __future__ import annotations
import dataclasses, functools, logging, os, re, string, types
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from pytest_carthage import Image, Layout, Machine, Role, filesystem_task, machine_task
frozen = dataclass(frozen=True, slots=True, kw_only=True)
"""
#: a role with one task, of which the last line is to be told
ROLE = """
@frozen
class Till(Role):
    shop: str = "Corner"

    @filesystem_task("open")
    async def open(self, fs):
        {}

image = Image.debian("bookworm").with_(Till())
"""
#: a role with what is told, and a task that uses ``self.text``
MEMBER = """
{}
    @filesystem_task("open")
    async def open(self, fs):
        await fs.run(self.text)

image = Image.debian("bookworm").with_(Till())
"""
Keys = Callable[[Mapping[str, str]], list[str]]


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    """Keys of the steps of ``image`` in ``main.py``, of these files in a new folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    number = 0

    def compute(files: Mapping[str, str]) -> list[str]:
        nonlocal number
        number += 1
        folder = tmp_path / str(number) / "lab"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(HEAD + text if path.suffix == ".py" else text)
        before = set(sys.modules)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            try:
                image = importlib.import_module("main").image
                return [step.key for step in image.steps]
            finally:
                for name in set(sys.modules) - before:
                    if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
                        del sys.modules[name]

    yield compute
    shutil.rmtree(tmp_path)


def used(line: str, above: str = "", **others: str) -> dict[str, str]:
    files = {"main.py": above + ROLE.format(line)}
    return files | {f"{name}.py": text for name, text in others.items()}


def member(text: str, above: str = "") -> dict[str, str]:
    return {"main.py": above + MEMBER.format(text)}


CMD = "def cmd(): return 'one'\n"
COUNTS = {
    "function of a module": used("await fs.run(shop.cmd())", "import shop\n", shop=CMD),
    "constant of a module": used("await fs.run(shop.C)", "import shop\n", shop="C = 'one'"),
    "module of a package": used(
        "await fs.run(shop.till.cmd())",
        "import shop.till\n",
        **{"shop/__init__": "", "shop/till": CMD},
    ),
    "function that is imported": used("await fs.run(cmd())", "from shop import cmd\n", shop=CMD),
    "constant that an imported function uses": used(
        "await fs.run(cmd())",
        "from shop import cmd\n",
        shop="C = 'one'\ndef cmd(): return C\n",
    ),
    "import of a name in the task": used("from shop import cmd; await fs.run(cmd())", shop=CMD),
    "import of a module in the task": used("import shop; await fs.run(shop.cmd())", shop=CMD),
    "module in the folder above": {
        "main.py": "from roles.till import image\n",
        "roles/__init__.py": "",
        "roles/till.py": "from shop import cmd\n" + ROLE.format("await fs.run(cmd())"),
        "shop.py": CMD,
    },
    "second of two lambdas": used("A(), B()", "A = lambda: 'a'\nB = lambda: 'one'\n"),
    "what the second of two functions has closed over": used(
        "A(), B()",
        "def make(x):\n    def inner(): return x\n    return inner\n"
        "A = make('a')\nB = make('one')\n",
    ),
    "default": used("f()", "PORT = 'one'\ndef f(port=PORT): return port\n"),
    "default of a keyword": used("f()", "PORT = 'one'\ndef f(*, port=PORT): return port\n"),
    "decorator of the task": {
        "main.py": """
def greeted(f):
    @functools.wraps(f)
    async def inner(self, fs):
        await fs.run('one')
        await f(self, fs)
    return inner
@frozen
class Till(Role):
    @filesystem_task
    @greeted
    async def open(self, fs):
        await fs.run("x")
image = Image.debian("bookworm").with_(Till())
"""
    },
    "decorator of a function": used(
        "h()",
        "def twice(f):\n    @functools.wraps(f)\n    def inner(): return 'one' + f()\n"
        "    return inner\n@twice\ndef h(): return 'x'\n",
    ),
    "cache around a function": used("h()", "@functools.lru_cache\ndef h(): return 'one'\n"),
    "task of the base that is called by super": {
        "main.py": """
class Base(Role):
    @filesystem_task
    async def open(self, fs): await fs.run('one')
class Till(Base):
    @filesystem_task
    async def open(self, fs): await super().open(fs)
image = Image.debian("bookworm").with_(Till())
"""
    },
    "inherited method": member(
        "class Till(Base):", "class Base(Role):\n    def text(self): return 'one'\n"
    ),
    "attribute": member("class Till(Role):\n    text = 'one'"),
    "property": member("class Till(Role):\n    @property\n    def text(self): return 'one'"),
    "cached property": member(
        "class Till(Role):\n    @functools.cached_property\n    def text(self): return 'one'"
    ),
    "class method": member("class Till(Role):\n    @classmethod\n    def text(cls): return 'one'"),
    "attribute by its name": {
        "main.py": "class Till(Role):\n    text = 'one'\n    @filesystem_task\n"
        "    async def open(self, fs): await fs.run(getattr(self, 'text'))\n"
        "image = Image.debian('bookworm').with_(Till())\n"
    },
    "member of an enumeration as parameter": member(
        "@frozen\nclass Till(Role):\n    text: Port = Port.A",
        "class Port(Enum):\n    A = 'one'\n",
    ),
    "member of an enumeration": used("A.value", "class Port(Enum):\n    A = 'one'\nA = Port.A\n"),
    "attribute of an object": used(
        "X.x", "class C:\n    def __init__(self, x): self.x = x\nX = C('one')\n"
    ),
    "method of an object": used("X.y()", "class C:\n    def y(self): return 'one'\nX = C()\n"),
    "method of a dataclass": used(
        "X.y()", "@frozen\nclass C:\n    def y(self): return 'one'\nX = C()\n"
    ),
    "method of a parameter": member(
        "@frozen\nclass Till(Role):\n    text: C = C()",
        "@frozen\nclass C:\n    def y(self): return 'one'\n",
    ),
    "what a parameter has closed over": member(
        "@frozen\nclass Till(Role):\n    text: object = make('one')",
        "def make(x):\n    def inner(): return x\n    return inner\n",
    ),
    "base of a class": used(
        "C().y()", "class B:\n    def y(self): return 'one'\nclass C(B): pass\n"
    ),
    "constant that a class uses": used(
        "C().y()", "G = 'one'\nclass C:\n    def y(self): return G\n"
    ),
    "default of a field": used("C().y", "G = 'one'\n@dataclass\nclass C:\n    y: str = G\n"),
    "factory of a field": used(
        "C().y",
        "def make(): return 'one'\n@dataclass\nclass C:\n"
        "    y: str = field(default_factory=make)\n",
    ),
    "attribute of a class that is computed": used(
        "C.X", "def make(): return 'one'\nclass C:\n    X = make()\n"
    ),
    "function of a partial": used(
        "P()", "G = 'one'\ndef f(a): return a + G\nP = functools.partial(f, 'x')\n"
    ),
    "function in a table": used("P['a']()", "G = 'one'\ndef f(): return G\nP = {'a': f}\n"),
    "table with something without a key": used("P['a']", "P = {'a': 'one', 'lock': object()}\n"),
    "pattern": used("P.pattern", "P = re.compile('one')\n"),
    "template of the library": used("P.substitute()", "P = string.Template('one')\n"),
    "namespace": used("P.a", "P = types.SimpleNamespace(a='one')\n"),
    "property that a template may use": {
        "main.py": "class Till(Role):\n    @property\n    def url(self): return 'one'\n"
        "    @filesystem_task\n    async def open(self, fs):\n"
        "        await fs.template('x.j2', '/x')\n"
        "image = Image.debian('bookworm').with_(Till())\n"
    },
    "groups of Ansible": {
        "main.py": "class Till(Role):\n    groups = ('one',)\n"
        "    @filesystem_task\n    async def open(self, fs): await fs.ansible('x.yml')\n"
        "image = Image.debian('bookworm').with_(Till())\n"
    },
    "beside the class of all functions": used(
        "isinstance(P, F)", "from types import FunctionType as F\ndef P(): return 'one'\n"
    ),
    "functions that call each other": used(
        "a(1)", "def a(n): return b(n)\ndef b(n): return a(n) if n else 'one'\n"
    ),
}


@pytest.mark.parametrize("files", COUNTS.values(), ids=COUNTS.keys())
def test_edit_that_counts_changes_the_key(keys: Keys, files: Mapping[str, str]) -> None:
    edited = {name: text.replace("'one'", "'two'") for name, text in files.items()}
    assert edited != files
    assert keys(edited) != keys(files)


COUNTS_NOT = {
    "comment": used("await fs.run('x')", "# 'one'\n"),
    "function that has the name of a method": used(
        "await fs.run('x')", "def run(): return 'one'\n"
    ),
    "another function of a module": used(
        "await fs.run(shop.other())", "import shop\n", shop=CMD + "def other(): return 'x'\n"
    ),
    "machine task": member(
        "class Till(Role):\n    text = 'x'\n    @machine_task\n"
        "    async def start(self, machine): await machine.run('one')"
    ),
    "another method": member(
        "class Till(Role):\n    text = 'x'\n    def other(self): return 'one'\n"
    ),
    "what welcomes machines, beside a template": {
        "main.py": "class Till(Role):\n"
        "    async def welcome(self, own, newcomer): await newcomer.run('one')\n"
        "    @filesystem_task\n    async def open(self, fs): await fs.template('x.j2', '/x')\n"
        "image = Image.debian('bookworm').with_(Till())\n"
    },
    # the folder is another one each time
    "place in the file system": used("HERE / 'x'", "HERE = Path(__file__).parent  # 'one'\n"),
    "place, as text": used("HERE", "HERE = os.path.dirname(__file__)  # 'one'\n"),
    "own file": used("Path(__file__).parent", "# 'one'\n"),
    "logger": used("log.info('x')", "log = logging.getLogger('one')\n"),
    "module that is not there": used("import nothing_such; nothing_such.run()", "# 'one'\n"),
    "the image itself": used("image.name", "# 'one'\n"),
    "layout with the image": {
        "main.py": ROLE.format("Lab.__name__")
        + "class Lab(Layout):\n    till = Machine(image=image)\n# 'one'\n"
    },
}


@pytest.mark.parametrize("files", COUNTS_NOT.values(), ids=COUNTS_NOT.keys())
def test_edit_that_does_not_count_keeps_the_key(keys: Keys, files: Mapping[str, str]) -> None:
    edited = {name: text.replace("'one'", "'two'") for name, text in files.items()}
    assert edited != files
    assert keys(edited) == keys(files)


def test_roles_that_differ_in_what_a_function_has_closed_over_are_two(keys: Keys) -> None:
    files = {
        "main.py": "def make(x):\n    def inner(): return x\n    return inner\n@frozen\n"
        "class Till(Role):\n    text: object\n    @filesystem_task\n"
        "    async def open(self, fs): await fs.run(self.text())\n"
        "image = Image.debian('bookworm').with_(Till(text=make('a')), Till(text=make('b')))\n"
    }
    first, second = keys(files)
    assert first != second


def test_keys_are_the_same_in_every_process(tmp_path: Path) -> None:
    text = HEAD + "S = {'a', 'b', 'c'}\nclass Port(Enum):\n    A = 1\n    B = 2\n"
    (tmp_path / "main.py").write_text(text + ROLE.format("S, Port, 'x' in {'x', 'y', 'z'}"))
    told = {
        subprocess.run(
            [sys.executable, "-c", "import main; print(*(s.key for s in main.image.steps))"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1
