"""Every command that README, documentation and lessons print is typed, by somebody new."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.console import Typed, differs, pages, typed_on
from tests.docs.newcomer import PYTHON, Newcomer, newcomer
from tests.support.unprivileged import REPOSITORY

TYPED = [typed for page in pages() for typed in typed_on(page)]

_HOST = (
    "installs on the host, or sets something of it; tests/cli and tests/providers do it to no host"
)
_MINUTES = "takes minutes, and CI runs it beside these tests"
_NIGHTLY = "takes minutes, by hand and nightly; tests/endurance has a small one in CI"
_LESSON = "CI runs all of example_suites, by `tox -e examples`"

#: what is not typed here: a line, wherever it is, and why
NOT_TYPED = {
    "python3 -m pip install tox && tox -e examples": _MINUTES,
    "tox": _MINUTES,
    "tox -e examples": _MINUTES,
    "pip install -e '.[dev]'": "the environment of these very tests is made by it",
    "pre-commit install": "changes the clone for those who commit; what it runs is `tox -e lint`",
    "pytest-carthage doctor --fix": _HOST,
    "pytest-carthage doctor --fix netns": _HOST,
    "pytest-carthage doctor --fix images": _HOST,
    "pytest-carthage doctor --fix libvirt": _HOST,
    "pytest-carthage doctor user --user ci --fix": _HOST,
    "sudo pytest-carthage doctor --machines 100 --fix": _HOST,
    "python -m tests.endurance.twins --pairs 100": _NIGHTLY,
    "python -m benchmarks": "measures for twenty minutes; its figures want a quiet machine",
    "python -m benchmarks.machines_100": "measures; its figures want a quiet machine",
    "python -m benchmarks.command --rounds 15 --json command.json": "measures, as above",
}
#: pages that tests of their own type, but for the lines that are in such a test's list
ELSEWHERE = {
    "docs/how-to/consoles.md": "tests/cli/test_console.py",
    "docs/how-to/images.md": "tests/docs/test_images.py",
    "docs/how-to/offline.md": "tests/docs/test_offline.py",
    "docs/how-to/other-tools.md": "tests/docs/test_other_tools.py",
    "docs/tutorial/small-internet.md": "tests/suites/test_networking.py",
}
#: lessons that take a second
LESSONS = {"first_steps": "2 passed", "own_layout": "7 passed"}


def typed(page: str) -> list[Typed]:
    """What a page says, but for what is not typed and what is installed beforehand."""
    return [each for each in TYPED if each.page == page and not _is_apart(each)]


def _is_apart(each: Typed) -> bool:
    return each.line in NOT_TYPED or each.line.startswith("pip install")


Script = Callable[[Newcomer, str], None]
#: page to what types all of it
SCRIPTS: dict[str, Script] = {}


def types(page: str) -> Callable[[Script], Script]:
    """Declare what types a page."""

    def declare(script: Script) -> Script:
        SCRIPTS[page] = script
        return script

    return declare


@types("README.md")
def readme(person: Newcomer, page: str) -> None:
    suite = person.suite("readme")
    person.run("pytest-carthage images build conftest.py:Shop", suite)
    for each in typed(page):
        name = person.environment() if " rm " in each.line else "tiny"
        if "logs" in each.line:
            assert "open" in person.type(each, suite)
        else:
            person.type(each, suite, NAME=name)


@types("docs/how-to/keep-and-look.md")
def keep_and_look(person: Newcomer, page: str) -> None:
    suite, branch = person.suite("kept"), person.suite("up", tree="example_suites/own_layout")
    for each in typed(page):
        name = person.environment() if " rm " in each.line else ""
        person.type(each, branch if each.printed else suite, NAME=name)


@types("docs/how-to/own-layout.md")
def own_layout(person: Newcomer, page: str) -> None:
    suite = person.suite("own_layout", tree="example_suites/own_layout")
    printed = [person.type(each, suite) for each in typed(page)]
    assert "198.51.100.80" in printed[0]
    assert "via 10.0.0.1" in printed[1]


@types("docs/how-to/bring-your-lab.md")
def bring_your_lab(person: Newcomer, page: str) -> None:
    lab = person.folder / "lab"
    shutil.copytree(REPOSITORY / "tests/labs/clos", lab)
    lab.chmod(0o777)
    for each in typed(page):
        person.type(each, lab)
    assert "class Clos(Layout)" in (lab / "conftest.py").read_text()


@types("docs/how-to/troubleshooting.md")
@types("docs/tutorial/shop.md")
@types("docs/how-to/ci.md")
@types("docs/how-to/see-packets.md")
@types("CONTRIBUTING.md")
def any_suite(person: Newcomer, page: str) -> None:
    suite = person.suite(Path(page).stem)
    for each in typed(page):
        person.type(each, suite)


@types("docs/how-to/ansible-evidence.md")
def ansible_evidence(person: Newcomer, page: str) -> None:
    suite = person.suite("production", tree="tests/docs/production")
    for each in typed(page):
        person.type(each, suite)


@types("docs/how-to/edit-and-run.md")
def edit_and_run(person: Newcomer, page: str) -> None:
    suite = person.suite("work", tree="tests/docs/edit_and_run")
    printed = [person.type(each, suite) for each in typed(page)]
    build, again, check, play, tests, one, remove = printed
    assert "work-shop: stays for " in build
    assert "stage imported: cached" in again
    assert "stage deployed: done" in again
    assert "skipping: [web]" in check
    assert "changed: [web]" in play
    assert "[db]" not in play
    assert "1 passed" in tests
    assert "1 passed" in one
    assert "removed work-shop" in remove


@types("docs/tutorial/first-steps.md")
def first_steps(person: Newcomer, page: str) -> None:
    suite = person.suite("first_steps", tree="example_suites/first_steps")
    for each in typed(page):
        person.type(each, suite)
    conftest = suite / "conftest.py"
    conftest.write_text(conftest.read_text().replace('at(".1")', 'at(".300")'))
    done = person.run("pytest", suite)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (shown,) = re.findall(r"```text\n(E .*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
    assert not differs(shown, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def venv() -> Iterator[Path]:
    """Where root has a virtual environment, which becomes the user's: it takes a minute to make."""
    # pytest's own temporary folder is closed to others
    folder = Path(tempfile.mkdtemp(prefix="newcomers-"))
    folder.chmod(0o755)
    yield folder / "venv"
    shutil.rmtree(folder)


@pytest.fixture(
    scope="module", params=[pytest.param(True, id="root"), pytest.param(False, id="user")]
)
def person(request: pytest.FixtureRequest, venv: Path) -> Iterator[Newcomer]:
    """Somebody new, who has installed what the pages say."""
    if request.param and os.geteuid() != 0:
        pytest.skip("not root")
    python = subprocess.run(
        [PYTHON, "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"]
    )
    if python.returncode:
        pytest.skip(f"{PYTHON} makes no virtual environments; try: apt install python3-venv")
    with newcomer(root=request.param, venv=venv) as person:
        lines = [each.line for each in TYPED if each.line not in NOT_TYPED]
        extras = {extra for line in lines for extra in offered(line)}
        if importlib.util.find_spec("libvirt") is None:
            extras.discard("libvirt")  # nor could it be compiled here
        person.install(extras)
        yield person


def offered(line: str) -> list[str]:
    """Extras that a line, or a page, speaks of."""
    lists = re.findall(r"(?:pytest-carthage|'\.)\[([\w,]+)\]", line)
    return [extra for extras in lists for extra in extras.split(",")]


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", SCRIPTS)
def test_page_is_typed(person: Newcomer, page: str) -> None:
    try:
        SCRIPTS[page](person, page)
    finally:
        person.run("pytest-carthage rm --all")


@pytest.mark.real
@pytest.mark.timeout(300)
def test_lessons_in_a_clone_are_found_and_pass(person: Newcomer) -> None:
    for lesson, outcome in LESSONS.items():
        for line, cwd in (
            (f"pytest example_suites/{lesson}", person.clone),
            ("pytest", person.clone / "example_suites" / lesson),
        ):
            done = person.run(line, cwd)
            assert outcome in done.stdout, done.stdout + done.stderr
            assert "Unknown config option" not in done.stdout + done.stderr
    done = person.run("pytest --collect-only -q -W error::pytest.PytestConfigWarning")
    assert re.search(r"^\d+ tests collected", done.stdout, re.MULTILINE), done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted({each.page for each in TYPED}))
def test_somebody_types_each_line(page: str) -> None:
    lines = typed(page)
    if page in SCRIPTS or not lines:
        return
    if page in ELSEWHERE:
        assert Path(page).name in (REPOSITORY / ELSEWHERE[page]).read_text()
        return
    assert page.startswith("example_suites/"), f"nobody types {[each.line for each in lines]}"
    # a lesson's own page: the lesson is run, by `tox -e examples`
    assert [each.line for each in lines] == ["pytest"], _LESSON


def test_list_of_what_is_not_typed_is_about_what_pages_say() -> None:
    assert set(NOT_TYPED) - {each.line for each in TYPED} == set()
    assert set(ELSEWHERE) | set(SCRIPTS) <= {each.page for each in TYPED}


def test_extras_that_are_offered_are_there_and_are_used() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = set(project["optional-dependencies"])
    root = REPOSITORY / "pytest_carthage"
    said = {extra for page in pages() for extra in offered(page.read_text())}
    remedies = {extra for path in root.rglob("*.py") for extra in offered(path.read_text())}
    # who needs one is told of it, and everything that is told of is there
    assert remedies <= declared
    assert said - {"dev"} == remedies
    assert declared - said == {"docs", "test"}
