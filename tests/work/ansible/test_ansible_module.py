"""``run_module`` with the real ``ansible``, against the real agent on the host itself."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage.errors import AnsibleError, AnsibleModuleError
from pytest_carthage.handles.ansible_module import ModuleResults
from pytest_carthage.work.ansible.module import run_module
from tests.work.ansible.live import Stand, StandIn, planned
from tests.work.ansible.test_ansible import write

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "ansible").exists() and shutil.which("ansible") is None,
    reason="no ansible; try: pip install 'pytest-carthage[ansible]'",
)


@pytest.fixture
def shop(stand: Stand) -> StandIn:
    return stand(
        planned("web", groups=("front",), inventory_hostname="web1.prod.example"), planned("db")
    )


def run(shop: StandIn, module: str, *arguments: Any, **options: Any) -> ModuleResults:
    own = {name: options.pop(name) for name in ("hosts", "playbook_dir") if name in options}
    given: Any = options
    return asyncio.run(run_module(shop, module, *arguments, **own, options=given))


def refusal(shop: StandIn, module: str, *arguments: Any, **options: Any) -> AnsibleError:
    with pytest.raises(AnsibleError) as caught:
        run(shop, module, *arguments, **options)
    return caught.value


def test_module_gives_what_it_returned_for_each_machine(shop: StandIn) -> None:
    results = run(
        shop, "ping", {"data": "{{ inventory_hostname }} {{ more }}"}, extra_vars={"more": 7}
    )
    assert set(results) == {"web1.prod.example", "db"}
    assert results["db"]["ping"] == "db 7"
    assert results["web1.prod.example"].values["ping"] == "web1.prod.example 7"
    assert (results.ok, results.changed, results["db"].status) == (True, False, "ok")
    assert "SUCCESS" in results.log.read_text() or "ok: " in results.log.read_text()
    assert 0 < results["db"].duration_s < results.duration_s
    assert shop.told[-1] == "done 0 changed, 2 ok"


def test_module_takes_text_and_a_machine_by_the_layouts_name(shop: StandIn) -> None:
    results = run(shop, "shell", "echo $((6 * 7)); echo more >&2", hosts=["web"])
    assert list(results) == ["web1.prod.example"]
    assert results["web1.prod.example"]["stdout"] == "42"
    assert results["web1.prod.example"]["stderr"] == "more"
    assert results.changed


def test_module_in_check_mode_with_diff_changes_nothing(shop: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "file"
    arguments = {"content": "x\n", "dest": str(file)}
    results = run(shop, "copy", arguments, hosts="db", check=True, diff=True)
    assert results["db"].changed
    assert results["db"]["diff"][0]["after"] == "x\n"
    assert not file.exists()


def test_module_of_a_tree_has_its_configuration(shop: StandIn, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write(
        tree / "ansible.cfg",
        "[defaults]\ninventory = hosts\nlibrary = mine\ncallback_plugins = mine\n",
    )
    write(tree / "hosts", "[data]\ndb\nother.prod.example\n")
    write(tree / "plays/group_vars/data.yml", "title: Shop\n")
    write(
        tree / "mine/own.py",
        """
        from ansible.module_utils.basic import AnsibleModule
        module = AnsibleModule({"title": {}})
        module.exit_json(changed=True, said=module.params["title"])
        """,
    )
    results = run(shop, "own", {"title": "{{ title }}"}, hosts="data", playbook_dir=tree / "plays")
    assert results["db"]["said"] == "Shop"
    assert results.absent == ("other.prod.example",)
    error = refusal(shop, "ping", hosts="nobody", playbook_dir=tree)
    assert "hosts: 'nobody' is neither a machine of the layout nor a group of the tree's" in (
        str(error)
    )
    error = refusal(shop, "ping", hosts="~till", playbook_dir=tree)
    assert "hosts '~till' means no machine; machines: web, db; groups: front" in str(error)


def test_module_that_fails_raises_with_all_results(shop: StandIn) -> None:
    error = refusal(shop, "shell", "echo why >&2; test {{ inventory_hostname }} = db")
    assert str(error).startswith(
        "module 'shell' on layout 'Shop' (test-shop): failed on 'web1.prod.example':\n"
    )
    assert "stderr: why" in str(error)
    assert isinstance(error, AnsibleModuleError)
    assert error.results["db"].ok
    assert error.results["web1.prod.example"]["rc"] == 1


def test_module_that_there_is_not_is_told_with_what_may_be_meant(shop: StandIn) -> None:
    error = refusal(shop, "servce", hosts="db")
    assert "servce" in str(error)
    assert "did you mean 'service'" in str(error)


def test_module_with_wrong_arguments_is_told_which_there_are(shop: StandIn) -> None:
    error = refusal(shop, "ping", {"date": 1}, hosts="db")
    assert "Unsupported parameters for (ping) module: date. Supported parameters include: data" in (
        str(error)
    )
    assert "gave up" not in str(error)
    assert "No argument passed to command module" in str(refusal(shop, "command"))


def test_module_on_an_unknown_machine_is_refused_with_what_may_be_meant(shop: StandIn) -> None:
    error = refusal(shop, "ping", hosts="wbe")
    assert str(error).startswith("hosts 'wbe': 'wbe' is neither a machine nor a group of layout")
    assert "did you mean 'web'?" in str(error)
    assert shop.told == []


def test_module_with_what_json_cannot_hold_is_refused(shop: StandIn) -> None:
    assert "arguments: Ansible cannot be given this" in str(refusal(shop, "ping", {"a": object()}))


def test_folder_of_a_tree_that_there_is_not_is_refused(shop: StandIn) -> None:
    assert (
        str(refusal(shop, "ping", playbook_dir="/no")) == "playbook_dir: there is no folder '/no'"
    )
