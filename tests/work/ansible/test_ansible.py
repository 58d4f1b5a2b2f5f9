"""``run_playbook`` with the real ansible-playbook, against the real agent on the host itself."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import time
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_carthage.errors import AnsibleError, HostError, TimeLimitError
from pytest_carthage.work.ansible.playbook import PlaybookResult, run_playbook
from tests.work.ansible.live import Stand, StandIn, planned

if TYPE_CHECKING:
    from pytest_carthage.handles.ansible_options import PlaybookOptions

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "ansible-playbook").exists()
    and shutil.which("ansible-playbook") is None,
    reason="no ansible-playbook; try: pip install 'pytest-carthage[ansible]'",
)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users on the host: needs root")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip("\n"))
    return path


def run(environment: StandIn, playbook: Path | str, **options: Any) -> PlaybookResult:
    timeout_s = options.pop("timeout_s", 3600.0)
    given = cast("PlaybookOptions", options)
    return asyncio.run(run_playbook(environment, playbook, timeout_s=timeout_s, options=given))


def refusal(environment: StandIn, playbook: Path | str, **options: Any) -> AnsibleError:
    with pytest.raises(AnsibleError) as caught:
        run(environment, playbook, **options)
    return caught.value


def as_before(text: str) -> str:
    """What newer versions of Ansible say of a command that failed, as older ones say it."""
    return text.replace("The command exited with a non-zero", "non-zero").replace("code.", "code")


def statuses(result: PlaybookResult) -> dict[str, str]:
    return {f"{task.name}@{task.host}": task.status for task in result.tasks}


def processes_with(text: str) -> list[str]:
    """Command lines of living processes that contain a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text().replace("\0", " ")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def none_within(text: str, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not processes_with(text):
            return True
        time.sleep(0.05)
    return False


# a production tree


@pytest.fixture
def production(tree: Path) -> Path:
    """A tree as people have them: configuration on top, playbooks and roles below."""
    write(tree / "ansible.cfg", "[defaults]\nroles_path = shared\ncallback_plugins = extra\n")
    write(
        tree / "extra" / "own.py",
        """
        import os
        from ansible.plugins.callback import CallbackBase

        class CallbackModule(CallbackBase):
            CALLBACK_TYPE = "notification"
            CALLBACK_NAME = "own"

            def v2_playbook_on_stats(self, stats):
                self._display.display("the tree's own callback")
        """,
    )
    write(
        tree / "shared/site/tasks/main.yml",
        """
        - name: Page
          template: {src: page.j2, dest: "{{ folder }}/page-{{ inventory_hostname }}"}
          notify: Reload
        - name: Never here
          debug: {msg: no}
          when: inventory_hostname == "nobody"
        """,
    )
    write(
        tree / "shared/site/handlers/main.yml",
        """
        - name: Reload
          command: "true"
        """,
    )
    write(
        tree / "shared/site/templates/page.j2",
        "{{ title }} on {{ inventory_hostname }} ({{ ansible_host }}) for {{ owner }}\n",
    )
    write(tree / "playbooks/group_vars/front.yml", "title: Shop\nowner: production\n")
    write(
        tree / "playbooks/site.yml",
        """
        - name: Front
          hosts: front
          gather_facts: false
          roles: [site]
        - name: Printers
          hosts: printers
          tasks: [{debug: {msg: nobody}}]
        """,
    )
    return tree / "playbooks/site.yml"


def test_playbook_of_a_production_tree_runs_as_it_is(
    stand: Stand, production: Path, tmp_path: Path
) -> None:
    environment = stand(
        planned("web1", groups=("front",), address="192.0.2.1/24"),
        planned("web2", groups=("front",), address="192.0.2.2/24"),
        planned("db", groups=("data",)),
    )
    result = run(environment, production, extra_vars={"folder": tmp_path, "owner": "test"})
    assert (tmp_path / "page-web1").read_text() == "Shop on web1 (192.0.2.1) for test\n"
    assert (tmp_path / "page-web2").read_text() == "Shop on web2 (192.0.2.2) for test\n"
    assert statuses(result) == {
        "site : Page@web1": "changed",
        "site : Page@web2": "changed",
        "site : Never here@web1": "skipped",
        "site : Never here@web2": "skipped",
        "site : Reload@web1": "changed",
        "site : Reload@web2": "changed",
    }
    assert set(result.hosts) == {"web1", "web2"}
    assert result.hosts["web1"].changed == 2
    assert result.hosts["web1"].skipped == 1
    assert result.changed
    assert result.ok
    assert result.unmatched == ("Printers",)
    page = result.tasks[0]
    assert page.play == "Front"
    assert page.path.endswith("shared/site/tasks/main.yml:1")
    assert 0 < page.duration_s < result.duration_s
    log = result.log.read_text()
    assert "TASK [site : Page]" in log
    assert "the tree's own callback" in log
    assert environment.told[0] == "start"
    assert "note play Front" in environment.told
    assert "note site : Page" in environment.told
    assert "note site : Page: changed web1" in environment.told
    assert "note play Printers: no machine matches" in environment.told
    assert environment.told[-1] == "done 4 changed, 0 ok"


def test_playbook_twice_tells_that_nothing_changed(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - copy: {content: "once", dest: "{{ playbook_dir }}/made"}
        """,
    )
    first, second = run(environment, playbook), run(environment, playbook)
    assert first.changed
    assert not second.changed
    assert first.log != second.log


def test_playbook_in_check_mode_changes_nothing(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - copy: {content: "x", dest: "{{ playbook_dir }}/made"}
        """,
    )
    assert run(environment, playbook, check=True).changed
    assert not (tree / "made").exists()


TAGGED = """
- hosts: all
  gather_facts: false
  tasks:
    - {name: one, debug: {msg: "{{ who | default('nobody') }}"}, tags: [a]}
    - {name: two, debug: {msg: "two"}, tags: [b]}
    - {name: three, debug: {msg: "three"}, tags: [c]}
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tags": "a"}, ["one@db", "one@web"]),
        ({"tags": ["a", "b"], "limit": "web"}, ["one@web", "two@web"]),
        ({"tags": "c", "limit": ["web", "data"]}, ["three@db", "three@web"]),
    ],
)
def test_playbook_is_restricted_by_limit_and_tags(
    stand: Stand, tree: Path, options: dict[str, Any], expected: list[str]
) -> None:
    environment = stand(planned("web"), planned("db", groups=("data",)))
    result = run(environment, write(tree / "site.yml", TAGGED), **options)
    assert sorted(statuses(result)) == expected


def test_extra_vars_hold_addresses_paths_and_lists(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    values = {
        "gate": ip_address("10.0.0.1"),
        "file": Path("/srv"),
        "many": (1, 2),
        "t": "{{ gate }}",
    }
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - debug: {msg: "{{ gate }} {{ file }} {{ many | sum }} {{ t }}"}
        """,
    )
    result = run(environment, playbook, extra_vars=values)
    assert result.tasks[0].message == "10.0.0.1 /srv 3 10.0.0.1"
    kept = next((environment.folder / "ansible").glob("*.extra.json"))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


# who has the last word


def test_host_vars_of_the_tree_do_not_lead_out_of_the_layout(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web", address="192.0.2.9/24", variables={"size": "small"}))
    write(
        tree / "host_vars/web.yml",
        """
        ansible_connection: ssh
        ansible_host: 203.0.113.1
        size: large
        colour: red
        """,
    )
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - raw: "echo {{ ansible_host }} {{ size }} {{ colour }}"
              register: said
            - debug: {var: said.stdout_lines}
            - debug: {msg: "{{ said.stdout | trim }}"}
        """,
    )
    result = run(environment, playbook)
    assert result.tasks[-1].message == "192.0.2.9 small red"


def test_delegation_outside_the_layout_is_refused(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - {name: There, raw: "true", delegate_to: balancer.example.com}
        """,
    )
    text = str(refusal(environment, playbook))
    assert "task 'There' found no connection on 'web' (site.yml:4):\n" in text
    assert (
        "'balancer.example.com' is no machine of the layout, and plays do not leave the layout; "
        "declare a machine of that name"
    ) in text


@as_root
def test_delegation_within_the_layout_and_to_this_computer_works(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"), planned("db", address="10.0.0.10/24"))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: web
          gather_facts: false
          tasks:
            - {name: by name, raw: "true", delegate_to: db}
            - {name: by address, raw: "true", delegate_to: 10.0.0.10}
            - {name: here, raw: "true", delegate_to: localhost}
        - hosts: localhost
          gather_facts: false
          tasks:
            - {name: play here, raw: "true"}
        """,
    )
    result = run(environment, playbook)
    assert statuses(result) == {
        "by name@web": "changed",
        "by address@web": "changed",
        "here@web": "changed",
        "play here@localhost": "changed",
    }


def test_inventory_extra_gives_variables_and_no_machines(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"), planned("db"))
    write(tree / "production/hosts", "[front]\nweb\nreal.example.com\n[front:vars]\nzone=z1\n")
    write(tree / "production/group_vars/front.yml", "title: Production\n")
    playbook = write(
        tree / "site.yml",
        """
        - hosts: front
          gather_facts: false
          tasks:
            - debug: {msg: "{{ title }} {{ zone }}"}
        """,
    )
    result = run(environment, playbook, inventory_extra=tree / "production")
    assert [(task.host, task.message) for task in result.tasks] == [("web", "Production z1")]
    limited = run(environment, playbook, inventory_extra=[tree / "production"], limit="front")
    assert list(limited.hosts) == ["web"]


def test_inventory_extra_that_is_missing_is_refused(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    error = refusal(environment, write(tree / "a.yml", TAGGED), inventory_extra=tree / "prod")
    assert str(error) == f"inventory_extra: there is no '{tree}/prod'"


# what goes wrong


FAILING = """
- name: Front
  hosts: all
  gather_facts: false
  tasks:
    - name: Break
      shell: "echo some output; echo some reason >&2; exit 3"
    - name: After
      debug: {msg: never}
"""


def test_failing_task_is_told_with_play_machine_message_and_log(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"), planned("db"))
    error = refusal(environment, write(tree / "site.yml", FAILING))
    text = as_before(str(error))
    first = "web" if "failed on 'web'" in text else "db"
    other = "db" if first == "web" else "web"
    assert error.result is not None
    assert text == (
        f"playbook '{tree}/site.yml' on layout 'Shop' (test-shop): play 'Front', task 'Break' "
        f"failed on '{first}' (site.yml:5):\n"
        "  non-zero return code\n"
        "  stderr: some reason\n"
        "  stdout: some output\n"
        f"it went wrong too on: '{other}' (task 'Break' failed)\n"
        f"log: {error.result.log}"
    )
    assert error.result.hosts["web"].failed == 1
    assert environment.told[-1] == f"failed task 'Break' failed on '{first}'"
    assert f"note Break: failed {first}: non-zero return code" in map(as_before, environment.told)
    assert "some reason" in error.result.log.read_text()


def test_failing_item_is_named(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - name: Many
              raw: "test {{ item }} != b"
              loop: [a, b, c]
        """,
    )
    assert "\n  (item=b) non-zero return code\nlog:" in as_before(
        str(refusal(environment, playbook))
    )


def test_rescued_and_ignored_failures_are_no_failures(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - block:
                - {name: broken, raw: "false"}
              rescue:
                - {name: rescuer, debug: {msg: fine}}
            - {name: let pass, raw: "false", ignore_errors: true}
        """,
    )
    result = run(environment, playbook)
    assert result.ok
    assert statuses(result) == {
        "broken@web": "failed",
        "rescuer@web": "ok",
        "let pass@web": "ignored",
    }
    assert (result.hosts["web"].rescued, result.hosts["web"].ignored) == (1, 1)


def test_secret_output_stays_secret(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - {name: Quiet, raw: "cat {{ playbook_dir }}/password; false", no_log: true}
        """,
    )
    write(tree / "password", "sesame")
    error = refusal(environment, playbook)
    assert error.result is not None
    assert "sesame" not in str(error)
    assert "sesame" not in error.result.log.read_text()


def test_machine_that_does_not_answer_is_unreachable(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"), planned("lost"), reachable=("web",))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks: [{name: Touch, raw: "true"}]
        """,
    )
    error = refusal(environment, playbook)
    assert "task 'Touch' found no connection on 'lost' (site.yml:3):\n" in str(error)
    assert "machine 'lost': no connection to its agent through" in str(error)
    assert error.result is not None
    assert error.result.hosts["lost"].unreachable == 1
    assert error.result.hosts["web"].ok == 1


@as_root
def test_unknown_remote_user_is_told_with_the_remedy(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    write(tree / "ansible.cfg", "[defaults]\nremote_user = deploy-nobody\n")
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks: [{raw: "true"}]
        """,
    )
    text = str(refusal(environment, playbook))
    assert "machine 'web': run a command as 'deploy-nobody': no user 'deploy-nobody'" in text
    assert 'connect as another one with variables={"ansible_user": "root"}' in text


def test_missing_playbook_is_refused_before_anything_runs(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    write(tree / "other.yml", TAGGED)
    assert str(refusal(environment, tree / "site.yml")) == (
        f"playbook '{tree}/site.yml' for layout 'Shop': there is no such file "
        f"(looked for '{tree}/site.yml'); playbooks there: other.yml"
    )
    assert "it is a folder" in str(refusal(environment, tree))
    assert f"there is no folder '{tree}/no'" in str(refusal(environment, tree / "no/site.yml"))
    assert environment.told == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- hosts: all\n  tasks:\n    - debug: [\n", "YAML"),
        ("- hosts: all\n  tasks:\n    - nosuchmodule: {}\n", "nosuchmodule"),
    ],
    ids=["yaml", "module"],
)
def test_playbook_that_ansible_does_not_understand_is_refused(
    stand: Stand, tree: Path, text: str, expected: str
) -> None:
    environment = stand(planned("web"))
    error = refusal(environment, write(tree / "site.yml", text))
    assert "Ansible gave up with exit status 4:\n" in str(error)
    assert expected in str(error)
    assert "site.yml" in str(error)


def test_limit_to_an_unknown_machine_is_refused_before_anything_runs(
    stand: Stand, tree: Path
) -> None:
    environment = stand(planned("web", groups=("front",)))
    with pytest.raises(
        AnsibleError,
        match=r"^limit 'wbe': 'wbe' is neither a machine nor a group of layout 'Shop', did you "
        r"mean 'web'\?; machines: web; groups: front$",
    ):
        run(environment, write(tree / "site.yml", TAGGED), limit="wbe")
    assert environment.told == []


def test_playbook_that_means_no_machine_is_refused(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web", groups=("front",)))
    playbook = write(tree / "site.yml", "- {name: Data, hosts: databases, tasks: []}\n")
    assert (
        "no play matches a machine; plays: 'Data'; machines: web; groups: front; "
        "try: Machine(..., groups=[...]) with the group of the play; log: "
    ) in str(refusal(environment, playbook))


def test_extra_vars_that_json_cannot_hold_are_refused(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    with pytest.raises(AnsibleError, match=r"^extra_vars: Ansible cannot be given this: .*object"):
        run(environment, write(tree / "site.yml", TAGGED), extra_vars={"a": object()})


def test_host_without_ansible_is_told_how_to_get_it(
    stand: Stand, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = stand(planned("web"))
    monkeypatch.setattr(sys, "executable", str(tree / "python"))
    monkeypatch.setenv("PATH", str(tree))
    with pytest.raises(HostError, match=r"ansible: no ansible-playbook in .* or on PATH; try: pip "
                       r"install 'pytest-carthage\[ansible\]'"):  # fmt: skip
        run(environment, write(tree / "site.yml", TAGGED))


# time


SLEEPING = """
- hosts: all
  gather_facts: false
  tasks:
    - {name: Sleep, raw: "sleep %s"}
"""


def test_playbook_over_its_time_is_killed_with_all_its_processes(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(tree / "limit.yml", SLEEPING % "912.5")
    with pytest.raises(
        TimeLimitError,
        match=r"^ansible limit\.yml: not done after 5 s; it was at task 'Sleep' on 'web'; log: /",
    ):
        run(environment, playbook, timeout_s=5)
    assert none_within("limit.yml", 2)
    assert none_within("sleep 912.5", 2)
    assert environment.told[-1] == "failed not done after 5 s"


def test_playbook_that_is_cancelled_is_killed_with_all_its_processes(
    stand: Stand, tree: Path
) -> None:
    environment = stand(planned("web"))
    playbook = write(tree / "cancel.yml", SLEEPING % "913.5")

    async def cancelled() -> None:
        task = asyncio.create_task(run_playbook(environment, playbook))
        async with asyncio.timeout(20):
            while not processes_with("sleep 913.5"):  # noqa: ASYNC110 (only /proc tells)
                await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert none_within("cancel.yml", 2)
    assert none_within("sleep 913.5", 2)
    assert environment.told[-1] == "failed cancelled"


OWNER = """
import asyncio, sys
from pathlib import Path
from pytest_carthage.work.ansible.playbook import run_playbook
from tests.work.ansible.live import StandIn, plan_of, planned

environment = StandIn("test-shop", Path(sys.argv[1]), plan_of(planned("web")))
asyncio.run(run_playbook(environment, sys.argv[2]))
"""


def test_playbook_whose_owner_is_killed_leaves_no_process(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(tree / "orphan.yml", SLEEPING % "914.5")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    argv = [sys.executable, "-c", OWNER, str(environment.folder), str(playbook)]
    with subprocess.Popen(argv, env=env) as owner:
        deadline = time.monotonic() + 20
        while not processes_with("sleep 914.5"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        owner.kill()
    assert none_within("orphan.yml", 5)
    assert none_within("sleep 914.5", 5)


# the computer it runs on


@pytest.mark.parametrize("home", ["missing", "empty", "read-only", "unset"])
def test_playbook_runs_whatever_the_home_is(
    stand: Stand, tree: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    environment = stand(planned("web"))
    folder = tree / "home"
    if home == "unset":
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", "" if home == "empty" else str(folder))
    if home == "read-only":
        folder.mkdir(mode=0o500)
    result = run(environment, write(tree / "site.yml", TAGGED))
    assert result.ok
    assert "WARNING" not in result.log.read_text()
    assert not folder.is_dir() or not list(folder.iterdir())


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LANG": "xx_YY.ISO-8859-1", "LC_ALL": ""}])
def test_playbook_runs_in_any_locale_and_without_colours(
    stand: Stand, tree: Path, monkeypatch: pytest.MonkeyPatch, locale: dict[str, str]
) -> None:
    environment = stand(planned("web"))
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ANSIBLE_FORCE_COLOR", "1")
    result = run(environment, write(tree / "site.yml", TAGGED), extra_vars={"who": "Zoë ☃"})
    assert result.tasks[0].message == "Zoë ☃"
    assert "\x1b" not in result.log.read_text()


def test_settings_of_a_tree_that_ask_a_person_do_not_hang(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    write(
        tree / "ansible.cfg",
        """
        [defaults]
        ask_pass = true
        vars_plugins_enabled = host_group_vars
        retry_files_enabled = true
        [privilege_escalation]
        become_ask_pass = true
        [inventory]
        enable_plugins = ini
        """,
    )
    assert run(environment, write(tree / "site.yml", TAGGED), timeout_s=20).ok
    assert not list(tree.glob("*.retry"))


def test_settings_in_a_folder_that_everybody_can_write_are_passed_over(
    stand: Stand, tree: Path
) -> None:
    environment = stand(planned("web"))
    write(tree / "ansible.cfg", "[defaults]\nremote_user = deploy-nobody\n")
    tree.chmod(0o777)
    playbook = write(tree / "site.yml", '- {hosts: all, gather_facts: false, tasks: [raw: "true"]}')
    assert run(environment, playbook).ok


# the connection


def test_files_go_in_and_out_byte_for_byte(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    data = os.urandom(3_000_000)
    (tree / "big").write_bytes(data)
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - copy: {src: big, dest: "{{ playbook_dir }}/there", mode: "0640"}
            - fetch: {src: "{{ playbook_dir }}/there", dest: "{{ playbook_dir }}/back", flat: true}
        """,
    )
    run(environment, playbook)
    assert (tree / "there").read_bytes() == data
    assert stat.S_IMODE((tree / "there").stat().st_mode) == 0o640
    assert (tree / "back").read_bytes() == data


def test_command_ended_by_a_signal_has_a_shells_status(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - raw: "kill -TERM $$"
              register: done
              failed_when: done.rc != 143
        """,
    )
    assert run(environment, playbook).ok


def test_background_job_of_a_task_lives_on(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web", variables={"ansible_async_dir": str(tree)}))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          tasks:
            - shell: "sleep 1; echo late > {{ playbook_dir }}/late"
              async: 30
              poll: 0
            - wait_for: {path: "{{ playbook_dir }}/late", timeout: 20}
        """,
    )
    assert run(environment, playbook).ok


@as_root
@pytest.mark.skipif(shutil.which("sudo") is not None, reason="this host has a sudo")
def test_become_needs_no_sudo_in_the_machine(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web"))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          become: true
          become_user: nobody
          tasks:
            - command: id -un
              register: said
            - debug: {msg: "{{ said.stdout }}"}
            - raw: id -un
              become: false
              register: said
            - debug: {msg: "{{ said.stdout | trim }}"}
        """,
    )
    result = run(environment, playbook)
    assert [task.message for task in result.tasks if task.name == "debug"] == ["nobody", "root"]


ASKING = """\
#!/bin/sh
# takes sudo's options, and asks as sudo does
while [ "$1" != /bin/sh ]; do
    case $1 in -p) prompt=$2; shift 2;; -u) shift 2;; *) shift;; esac
done
printf %s "$prompt" >&2
read -r password
if [ "$password" != "$(cat "$(dirname "$0")/password")" ]; then
    echo "Sorry, try again." >&2
    exit 1
fi
exec "$@"
"""


@pytest.mark.parametrize("password", ["sesame", "wrong", "environment"])
def test_become_answers_a_password_prompt(
    stand: Stand, tree: Path, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sudo = write(tree / "asking", ASKING)
    sudo.chmod(0o755)
    write(tree / "password", "sesame")
    variables = {"ansible_become_exe": str(sudo)}
    options = {}
    if password == "environment":
        monkeypatch.setenv("SHOP_SUDO", "sesame")
        options = {"become_password_env": "SHOP_SUDO", "verbosity": 3}
    else:
        variables["ansible_become_password"] = password
    environment = stand(planned("web", variables={**variables, "ansible_become_user": "other"}))
    playbook = write(
        tree / "site.yml",
        """
        - hosts: all
          gather_facts: false
          become: true
          tasks:
            - shell: echo let in; echo loud >&2
              register: said
            - debug: {msg: "{{ said.stdout }}, {{ said.stderr }}"}
        """,
    )
    if password != "wrong":
        result = run(environment, playbook, **options)
        assert result.tasks[-1].message == "let in, loud"
        assert "sesame" not in result.log.read_text()
    else:
        error = refusal(environment, playbook, timeout_s=20)
        assert "Incorrect sudo password" in str(error)
        assert "wrong" not in str(error).replace("went wrong", "")


def test_inventory_is_kept_for_people(stand: Stand, tree: Path) -> None:
    environment = stand(planned("web", groups=("front",)))
    run(environment, write(tree / "site.yml", TAGGED))
    (kept,) = (environment.folder / "ansible").glob("*.carthage.json")
    assert json.loads(kept.read_text())["groups"] == {"front": ["web"]}
