"""The Python that is written of a lab: formatted, and the same layout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, cli
from pytest_carthage.labs.expressions import Call, Ref, text_of
from pytest_carthage.labs.lab import Lab
from pytest_carthage.labs.reading import read_lab
from pytest_carthage.live.layout import here
from tests.labs.conftest import CAMPUS, CLOS, SHOP

LABS = [CLOS, CAMPUS, SHOP]


def read(path: Path) -> Lab:
    return read_lab(path, here({}))


def described(layout: type[Layout]) -> Mapping[str, Any]:
    """What its members are, without where they stand."""
    return {
        **{name: network.subnets for name, network in layout.networks().items()},
        **{name: (image.key, image.config) for name, image in layout.images().items()},
        **{
            name: (
                machine.image.key if machine.image else None,
                {interface: repr(link) for interface, link in machine.links.items()},
                [role.parameters for role in machine.roles],
                (machine.env, machine.command, machine.restart, machine.limits, machine.on),
                (machine.routes, machine.forward, machine.hostname),
            )
            for name, machine in layout.machines().items()
        },
    }


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.name)
def test_source_declares_what_the_class_does(path: Path) -> None:
    file = (path if path.is_dir() else path.parent) / "conftest_of_the_lab.py"
    lab = read(path)
    members: dict[str, Any] = {"__name__": "lab", "__file__": str(file)}
    exec(compile(lab.source(), file, "exec"), members)
    (made,) = (one for one in members.values() if isinstance(one, type) and Layout in one.__bases__)
    assert described(made) == described(Layout.of("Same", lab.declared()))
    assert made.__name__ == lab.class_name


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.name)
def test_source_is_formatted_and_clean(path: Path, tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("no ruff beside this Python")
    file = tmp_path / "conftest.py"
    file.write_text(read(path).source())
    for words in (["format", "--diff"], ["check", "--select=E,F,I,UP,SIM,RUF"]):
        ran = [ruff, *words, "--isolated", "--line-length=100", str(file)]
        done = subprocess.run(ran, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_command_writes_a_file_whose_paths_are_of_its_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(CLOS.parent, tmp_path / "lab")
    output = tmp_path / "tests" / "conftest.py"
    output.parent.mkdir()
    lab = str(tmp_path / "lab" / CLOS.name)
    assert cli.main(["import", lab, "-o", str(output)]) == 0
    assert 'alpine.with_(File("../lab/motd", "/etc/motd"))' in output.read_text()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "pytest-carthage: clos.clab.yml:2: mgmt is not taken" in printed.err
    assert cli.main(["import", lab, "-o", str(output)]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_command_prints_and_refuses_what_is_no_lab(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["import", str(CAMPUS)]) == 0
    assert capsys.readouterr().out.endswith("a\n#   test wants it\n")
    (tmp_path / "x.yml").write_text("a: 1\n")
    assert cli.main(["import", str(tmp_path / "x.yml")]) == 2
    assert "it has neither a topology (containerlab) nor services" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (("a",), '("a",)'),
        ({"a": [Ref("lan"), 1]}, '{"a": [lan, 1]}'),
        ('say "x"', "'say \"x\"'"),
        ("it's", '"it\'s"'),
        ("a\nb\n", '"a\\n"\n"b\\n"'),
        (
            Call(function=dict, name="dict", kwargs={"a": "x" * 60, "b": "y" * 60}),
            f'dict(\n    a="{"x" * 60}",\n    b="{"y" * 60}",\n)',
        ),
    ],
)
def test_value_is_written_as_formatters_have_it(written: Any, text: str) -> None:
    assert text_of(written) == text
