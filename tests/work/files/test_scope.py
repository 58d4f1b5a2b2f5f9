"""Relative paths: they are of the folder of the code that gives them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pytest_carthage import AnsibleError, Layout, Machine, Network, testing
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.work.files.scope import Scope

CODE = """
import asyncio
from dataclasses import dataclass

from pytest_carthage import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Motd(Role):
    path: str


def put(machine, name):
    machine.put(name, "/srv/put")


def put_by_tasks(machine, name):
    async def go():
        await asyncio.gather(machine.aio.put(name, "/srv/put"))

    asyncio.run(go())


def template(machine, name):
    machine.template(name, "/srv/template")


def ansible(layout, *playbooks, **options):
    layout.ansible(*playbooks, **options)


def module(layout):
    layout.ansible_module("ping", playbook_dir="tree")


motd = Motd(path="motd")
"""


class Lab(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with testing.live(Lab) as lab:
        yield lab


@pytest.fixture
def web(lab: Lab) -> MachineHandle:
    return lab.web


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Code in a folder of its own, which is not the working folder."""
    folder, elsewhere = tmp_path / "product", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "only here").write_text("elsewhere\n")
    for name in ("data", "files/in-files", "templates/in-templates"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("of the product\n")
    (elsewhere / "data").write_text("of the working folder\n")
    (folder / "code.py").write_text(CODE)
    spec = importlib.util.spec_from_file_location("product_code", folder / "code.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["data", "in-files", "in-templates"])
@pytest.mark.parametrize("way", ["put", "put_by_tasks", "template"])
def test_path_is_of_the_folder_of_the_code(
    product: ModuleType, web: MachineHandle, way: str, name: str
) -> None:
    getattr(product, way)(web, name)
    target = "/srv/template" if way == "template" else "/srv/put"
    assert web.read_text(target) == "of the product\n"


def test_path_of_the_working_folder_is_refused_with_the_reason(
    product: ModuleType, web: MachineHandle, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        product.put(web, "only here")
    assert caught.value.filename == str(tmp_path / "product/only here")
    assert caught.value.strerror == (
        "machine 'web' of layout 'Lab': no such file on the host, but in the working "
        "folder: relative paths are of the folder of the code that gives them"
    )
    product.put(web, Path("only here").absolute())


def test_playbooks_and_options_are_of_the_folder_of_the_code(
    product: ModuleType, lab: Lab, tmp_path: Path
) -> None:
    folder = tmp_path / "product"
    with pytest.raises(AnsibleError, match="looked for") as caught:
        product.ansible(lab, "site.yml")
    assert f"(looked for '{folder}/site.yml')" in str(caught.value)
    (folder / "site.yml").write_text("[]\n")
    for options in ({"inventory_extra": "hosts"}, {"extra_vars": "@hosts"}, {"vault_ids": "hosts"}):
        with pytest.raises(AnsibleError, match=f"there is no '{folder}/hosts'"):
            product.ansible(lab, "site.yml", **options)
    with pytest.raises(AnsibleError, match=f"there is no folder '{folder}/tree'"):
        product.module(lab)


def test_parameters_of_a_role_are_of_the_folder_of_who_writes_it(
    product: ModuleType, tmp_path: Path
) -> None:
    own = tmp_path / "role"
    places = Scope.of(own, product.motd).places(Path("motd"))
    product_folder = tmp_path / "product"
    assert [path.parent for path in places] == [
        own,
        own / "files",
        own / "templates",
        product_folder,
        product_folder / "files",
        product_folder / "templates",
    ]
    assert Scope.of(own).places(Path("/etc/motd")) == [Path("/etc/motd")]
