"""Production trees with the real ansible-playbook: their configuration, and its command line."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Unpack

import pytest

from pytest_carthage.errors import AnsibleError
from pytest_carthage.handles.ansible_options import PlaybookOptions
from pytest_carthage.handles.playbook import PlaybookResult
from pytest_carthage.work.ansible.playbook import run_playbook
from tests.work.ansible.live import Stand, StandIn, planned
from tests.work.ansible.test_ansible import statuses, write

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "ansible-playbook").exists()
    and shutil.which("ansible-playbook") is None,
    reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
)


def run(
    environment: StandIn, /, *playbooks: Path, **options: Unpack[PlaybookOptions]
) -> PlaybookResult:
    return asyncio.run(run_playbook(environment, *playbooks, options=options))


def said(result: PlaybookResult) -> dict[str, str]:
    """What each task of the last play said."""
    return {task.name: task.message for task in result.tasks}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree as production has it; nearly everything is where ``ansible.cfg`` says."""
    tree = tmp_path / "tree"
    write(
        tree / "ansible.cfg",
        f"""
        [defaults]
        inventory = inventories/production, inventories/more.ini
        roles_path = shared/roles
        collections_path = shared/collections
        library = shared/modules
        filter_plugins = shared/filters
        callback_plugins = shared/callbacks
        callbacks_enabled = finished
        interpreter_python = {sys.executable}
        vault_password_file = vault.txt
        ansible_managed = made by hand
        """,
    )
    write(
        tree / "inventories/production/hosts",
        """
        [front]
        web1.prod.example ansible_host=203.0.113.7 ansible_connection=ssh
        web2.prod.example
        [front:vars]
        zone=dmz
        [data]
        db
        [balancers]
        lb.prod.example
        """,
    )
    write(tree / "inventories/more.ini", "[tills]\ntill1.prod.example\n")
    write(tree / "inventories/production/group_vars/front.yml", "title: Shop\n")
    write(tree / "inventories/production/host_vars/web1.prod.example.yml", "size: large\n")
    write(tree / "playbooks/group_vars/all.yml", "owner: production\n")
    write(
        tree / "shared/roles/site/tasks/main.yml",
        """
        - name: role
          debug: {msg: "{{ ['a'] | shout }}"}
        - name: module
          own_module:
          register: of_module
        - name: collection
          shop.tools.own_action:
        """,
    )
    write(
        tree / "shared/filters/shout.py",
        """
        class FilterModule:
            def filters(self):
                return {"shout": lambda words: words[0].upper()}
        """,
    )
    module = """
        import sys
        from ansible.module_utils.basic import AnsibleModule
        AnsibleModule({}).exit_json(msg=sys.executable)
        """
    write(tree / "shared/modules/own_module.py", module)
    write(
        tree / "shared/collections/ansible_collections/shop/tools/plugins/modules/own_action.py",
        module,
    )
    write(
        tree / "shared/callbacks/finished.py",
        """
        from ansible.plugins.callback import CallbackBase

        class CallbackModule(CallbackBase):
            CALLBACK_TYPE = "notification"
            CALLBACK_NAME = "finished"
            CALLBACK_NEEDS_ENABLED = True

            def v2_playbook_on_stats(self, stats):
                self._display.display("the tree's own callback")
        """,
    )
    write(tree / "vault.txt", "sesame\n")
    return tree


@pytest.fixture
def shop(stand: Stand) -> StandIn:
    """Two machines, one of which production knows by another name."""
    return stand(
        planned("web", address="192.0.2.9/24", inventory_hostname="web1.prod.example"),
        planned("db", groups=("layouts_own",)),
    )


FRONT = """
- hosts: front
  gather_facts: false
  tasks:
    - name: variables
      debug: {msg: "{{ inventory_hostname }} {{ ansible_host }} {{ title }} {{ zone }} {{ size }}"}
    - {name: owner, debug: {msg: "{{ owner }}"}}
    - {name: groups, debug: {msg: "{{ groups | dict2items | map(attribute='key') | sort }}"}}
    - {name: members, debug: {msg: "{{ groups['front'] + groups['layouts_own'] }}"}}
    - {name: managed, debug: {msg: "{{ lookup('template', 'managed.j2') }}"}}
    - {name: by the machine's name, raw: echo here, delegate_to: web}
    - import_role: {name: site}
- {hosts: balancers, tasks: [{debug: }]}
"""


def test_configuration_of_a_tree_is_obeyed(shop: StandIn, tree: Path) -> None:
    write(tree / "playbooks/managed.j2", "{{ ansible_managed }}")
    result = run(shop, write(tree / "playbooks/site.yml", FRONT))
    told = said(result)
    # where the machine is, is the layout's word
    assert told["variables"] == "web1.prod.example 192.0.2.9 Shop dmz large"
    assert told["owner"] == "production"
    assert json.loads(told["groups"].replace("'", '"')) == [
        *("all", "balancers", "data", "front", "layouts_own", "tills", "ungrouped")
    ]
    assert json.loads(told["members"].replace("'", '"')) == ["web1.prod.example", "db"]
    assert told["managed"] == "made by hand"
    assert told["site : role"] == "A"
    # interpreter_python
    assert told["site : module"] == told["site : collection"] == sys.executable
    assert "the tree's own callback" in result.log.read_text()
    assert list(result.hosts) == ["web1.prod.example"]
    assert result.unmatched == ("balancers",)
    assert result.absent == ("lb.prod.example", "till1.prod.example", "web2.prod.example")
    absent = "lb.prod.example, till1.prod.example, web2.prod.example"
    assert f"note no machines of the layout, left out: {absent}" in shop.told
    assert f"left out: {absent}" in " ".join(result.log.read_text().split())


def test_production_that_the_layout_has_nothing_of_is_named(shop: StandIn, tree: Path) -> None:
    playbook = write(tree / "playbooks/site.yml", "- {hosts: balancers, tasks: [{debug: }]}\n")
    with pytest.raises(
        AnsibleError,
        match=r"no play matches a machine; plays: 'balancers'; machines: web, db; .*, or "
        r"Machine\(\.\.\., inventory_hostname='lb\.prod\.example'\): the tree's inventory has "
        r"lb\.prod\.example, till1\.prod\.example, web2\.prod\.example, which are no machines",
    ):
        run(shop, playbook)


def test_inventory_of_the_tree_may_be_left_out(shop: StandIn, tree: Path) -> None:
    playbook = write(
        tree / "playbooks/site.yml",
        "- {hosts: all, gather_facts: no, tasks: [{debug: {msg: '{{ groups.keys() | list }}'}}]}",
    )
    result = run(shop, playbook, environment={"ANSIBLE_INVENTORY": "/dev/null"}, limit="web")
    assert list(result.hosts) == ["web1.prod.example"]
    assert "front" not in result.tasks[0].message
    assert result.absent == ()


MANY = """
- hosts: all
  gather_facts: false
  tasks:
    - {name: first, debug: {msg: first}, tags: [always]}
    - {name: second, debug: {msg: "{{ a }} {{ b }} {{ c }}"}}
    - {name: third, debug: {msg: third}, tags: [slow]}
    - {name: fourth, copy: {content: "new\\n", dest: "{{ playbook_dir }}/file"}}
    - {name: fifth, debug: {msg: "{{ lookup('env', 'SHOP') }} {{ secret }}"}}
    - {name: sixth, own_module: }
"""


def test_options_of_the_command_line_count(
    shop: StandIn, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT", "sesame")
    encrypted = subprocess.run(
        [Path(sys.executable).parent / "ansible-vault", "encrypt_string", "--name", "secret", "s3"],
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (tree / "vault.txt").write_text("another one\n")
    (tree / "prod.yml").write_text(f"a: file\nb: file\n{encrypted}")
    write(tree / "playbooks/file", "old\n")
    playbook = write(tree / "playbooks/many.yml", MANY)
    options: PlaybookOptions = {
        "start_at_task": "second",
        "skip_tags": "slow",
        "limit": ["db"],
        "extra_vars": [f"@{tree}/prod.yml", {"b": "mapping", "c": 1}],
        "environment": {"SHOP": "open", "ANSIBLE_VAULT_PASSWORD_FILE": ""},
        "vault_password_env": "VAULT",
        "module_path": tree / "shared/modules",
        "check": True,
        "diff": True,
        "verbosity": 2,
        "forks": 1,
    }
    result = run(shop, playbook, **options)
    assert statuses(result) == {
        "second@db": "ok",
        "fourth@db": "changed",
        "fifth@db": "ok",
        "sixth@db": "skipped",  # in check mode
    }
    assert said(result)["second"] == "file mapping 1"
    assert said(result)["fifth"] == "open s3"
    log = result.log.read_text()
    assert "-old\n+new" in log
    assert "task path:" in log  # which two -v say
    assert (tree / "playbooks/file").read_text() == "old\n"


def test_network_cli_is_refused_by_name(shop: StandIn, tree: Path) -> None:
    write(
        tree / "inventories/production/group_vars/data.yml",
        "ansible_connection: network_cli\nansible_network_os: vyos.vyos.vyos\n",
    )
    playbook = write(
        tree / "playbooks/site.yml",
        "- {hosts: data, gather_facts: false, tasks: [{raw: 'true'}]}\n",
    )
    with pytest.raises(
        AnsibleError,
        match=r"machine 'db': its ansible_network_os is 'vyos\.vyos\.vyos', and a machine of a "
        r"layout speaks neither network_cli nor netconf nor httpapi; leave it out with limit=",
    ):
        run(shop, playbook)
    run(shop, playbook, extra_vars={"ansible_network_os": ""})


def test_several_playbooks_are_one_run(shop: StandIn, tree: Path) -> None:
    first = write(tree / "playbooks/one.yml", "- {hosts: db, gather_facts: no, tasks: [debug: ]}\n")
    second = write(tree / "more/two.yml", "- {hosts: data, gather_facts: no, tasks: [debug: ]}\n")
    result = run(shop, first, second)
    assert result.hosts["db"].ok == 2
    assert result.playbook == first
    assert shop.reporter.events[0].subject == "ansible one.yml two.yml"


def test_no_playbook_is_refused(shop: StandIn) -> None:
    with pytest.raises(AnsibleError, match=r"^no playbook is given; try: ansible\('site.yml'\)$"):
        run(shop)


def test_limit_that_the_trees_inventory_does_not_know_is_refused(shop: StandIn, tree: Path) -> None:
    playbook = write(tree / "playbooks/many.yml", MANY)
    with pytest.raises(
        AnsibleError,
        match=r"limit: 'frnt' is neither a machine of the layout nor a group of the tree's "
        r"inventory, did you mean 'front'\?; machines: web1\.prod\.example, db; groups: all, ba",
    ):
        run(shop, playbook, limit=["db", "frnt"])


def test_variables_of_production_do_not_lead_out_of_the_layout(shop: StandIn, tree: Path) -> None:
    leading = "ansible_connection: ssh\nansible_host: 203.0.113.8\nansible_port: 2222\n"
    for place in ("inventories/production/group_vars/all", "playbooks/group_vars/front"):
        write(tree / f"{place}.yml", leading)
    write(tree / "playbooks/host_vars/web1.prod.example/main.yml", leading)
    playbook = write(
        tree / "playbooks/site.yml",
        """
        - hosts: front
          gather_facts: false
          remote_user: nobody-here
          vars: {ansible_user: "{{ lookup('pipe', 'id -un') }}"}
          tasks:
            - {name: where, debug: {msg: "{{ ansible_host }} {{ ansible_connection }}"}}
            - {name: works, raw: "true"}
            - {name: out, raw: "true", delegate_to: lb.prod.example}
        """,
    )
    with pytest.raises(AnsibleError, match=r"'203\.0\.113\.8' is no machine of the") as caught:
        run(shop, playbook)
    assert caught.value.result is not None
    assert said(caught.value.result)["where"] == "192.0.2.9 carthage"


def test_task_to_start_at_that_there_is_not_is_told(shop: StandIn, tree: Path) -> None:
    playbook = write(tree / "playbooks/many.yml", MANY)
    with pytest.raises(AnsibleError, match=r'No matching task "fivth" found'):
        run(shop, playbook, start_at_task="fivth")


def test_wrong_option_is_refused_before_anything_starts(shop: StandIn, tree: Path) -> None:
    given: Any = {"forks": "many"}
    with pytest.raises(AnsibleError, match=r"^forks: 'many' is no number of machines"):
        run(shop, write(tree / "playbooks/many.yml", MANY), **given)
    assert shop.told == []
