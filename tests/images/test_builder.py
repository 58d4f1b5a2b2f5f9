"""Building images: layers, their keys, failures, several at once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import BuildError, File, Image, filesystem_task
from pytest_carthage.images import recipe
from pytest_carthage.images.handle import ImageHandle
from pytest_carthage.images.policy import Policy
from pytest_carthage.store.built import Built
from pytest_carthage.store.layer import LayerMeta
from pytest_carthage.work.files.filesystem import AsyncFilesystem, Filesystem

from .conftest import DEBIAN, Lab, Module

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

Look = Callable[[Built], ImageHandle]


@pytest.fixture
def look(lab: Lab) -> Iterator[Look]:
    """Look into a built image."""
    handles: list[ImageHandle] = []

    def make(built: Built) -> ImageHandle:
        handles.append(ImageHandle(built, lab.portal))
        return handles[-1]

    yield make
    for handle in handles:
        handle.close()


def titles(built: Built) -> list[str]:
    return [layer.meta.title for layer in built.layers]


def made(built: Built, before: Built) -> list[str]:
    """Titles of layers that an image has and another has not."""
    keys = {layer.key for layer in before.layers}
    return [layer.meta.title for layer in built.layers if layer.key not in keys]


ROLE = """
GREETING = "hello"

@dataclass(frozen=True, slots=True, kw_only=True)
class Greeter(Role):
    port: int = 80

    @filesystem_task("configure")
    async def configure(self, fs):
        await fs.template("greeter.j2", "/etc/greeter.conf")

    @filesystem_task("greet")
    def greet(self, fs):
        fs.write_text("/etc/greeting", text())

    @filesystem_task("finish")
    def finish(self, fs):
        fs.run("touch /etc/finished")

def text():
    return GREETING + "\\n"

image = Image.debian("bookworm", name="small").with_(Greeter())
"""


@pytest.fixture
def greeter(tmp_path: Path) -> Path:
    folder = tmp_path / "suite"
    folder.mkdir(exist_ok=True)
    (folder / "greeter.j2").write_text("port = {{ port }}\n")
    return folder


def test_tasks_of_a_role_are_layers_in_their_order(
    lab: Lab, module: Module, greeter: Path, look: Look
) -> None:
    built = lab.build(module(ROLE)["image"])  # type: ignore[arg-type]
    assert titles(built) == ["base debian bookworm (minbase)", "configure", "greet", "finish"]
    assert {layer.meta.role for layer in built.layers[1:]} == {"Greeter"}
    image = look(built)
    assert image.read_text("/etc/greeter.conf") == "port = 80\n"
    assert image.read_text("/etc/greeting") == "hello\n"
    assert image.exists("/etc/finished")
    assert image.host.file("/etc/greeter.conf").contains("port = 80")
    layer = built.layers[1]
    assert sorted(path.name for path in layer.tree.rglob("*") if path.is_file()) == ["greeter.conf"]
    assert list(layer.meta.inputs) == ["greeter.j2"]
    assert not lab.traces() or all("look-" in trace for trace in lab.traces())


def test_image_that_is_there_is_not_built_again(lab: Lab, module: Module, greeter: Path) -> None:
    first = lab.build(module(ROLE)["image"])  # type: ignore[arg-type]
    lab.notes.clear()
    again = lab.build(module(ROLE)["image"])  # type: ignore[arg-type]
    assert again.layers == first.layers
    assert lab.notes == []


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        pytest.param(("touch /etc/finished", "touch /etc/end"), ["finish"], id="last task"),
        pytest.param(("GREETING =", "# a remark\nGREETING ="), [], id="comment elsewhere"),
        pytest.param(('"hello"', '"hi"'), ["greet", "finish"], id="constant that a helper uses"),
        pytest.param(('+ "\\n"', '+ "!\\n"'), ["greet", "finish"], id="helper"),
        pytest.param(
            ("port: int = 80", "port: int = 81"), ["configure", "greet", "finish"], id="parameter"
        ),
        pytest.param(("def text", "def other(): ...\ndef text"), [], id="function elsewhere"),
    ],
)
def test_edit_rebuilds_from_where_it_counts(
    lab: Lab, module: Module, greeter: Path, edit: tuple[str, str], expected: list[str]
) -> None:
    before = lab.build(module(ROLE)["image"])  # type: ignore[arg-type]
    after = lab.build(module(ROLE.replace(*edit))["image"])  # type: ignore[arg-type]
    assert made(after, before) == expected


def test_change_of_a_file_that_a_task_reads_rebuilds_from_there(
    lab: Lab, module: Module, greeter: Path, look: Look
) -> None:
    image: Any = module(ROLE)["image"]
    before = lab.build(image)
    (greeter / "greeter.j2").write_text("PORT = {{ port }}\n")
    wanted = lab.portal.call(lambda: recipe.look(image, lab.store))
    assert [(one.title, one.layer is None, one.why) for one in wanted] == [
        ("base debian bookworm (minbase)", False, ""),
        ("configure", True, "changed: greeter.j2"),
        ("greet", True, "a layer below it changes"),
        ("finish", True, "a layer below it changes"),
    ]
    assert all(one.expected_s is not None for one in wanted[1:])
    after = lab.build(image)
    assert made(after, before) == ["configure", "greet", "finish"]
    assert look(after).read_text("/etc/greeter.conf") == "PORT = 80\n"
    # as it was before: nothing is to be done
    (greeter / "greeter.j2").write_text("port = {{ port }}\n")
    lab.notes.clear()
    assert lab.build(image).layers == before.layers
    assert lab.notes == []


def test_included_template_and_folder_are_inputs_too(
    lab: Lab, module: Module, greeter: Path
) -> None:
    (greeter / "greeter.j2").write_text("{% include 'part.j2' %}\n")
    (greeter / "part.j2").write_text("one")
    (greeter / "site").mkdir()
    (greeter / "site" / "index.html").write_text("one")
    text = ROLE.replace("with_(Greeter())", 'with_(Greeter(), File("site", "/srv/site"))')
    before = lab.build(module(text)["image"])  # type: ignore[arg-type]
    (greeter / "site" / "index.html").write_text("two")
    (greeter / "site" / "more.html").write_text("new")
    second = lab.build(module(text)["image"])  # type: ignore[arg-type]
    assert made(second, before) == ["copy site to /srv/site"]
    (greeter / "part.j2").write_text("two")
    third = lab.build(module(text)["image"])  # type: ignore[arg-type]
    assert made(third, second)[0] == "configure"


def test_file_keeps_its_mode_and_owner_as_told(lab: Lab, look: Look, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    image = DEBIAN.with_(
        File(script, "/usr/local/bin/"), File(script, "/etc/secret", mode=0o600, user="mail")
    )
    opened = look(lab.build(image))
    assert opened.host.file("/usr/local/bin/script").mode == 0o755
    secret = opened.host.file("/etc/secret")
    assert (secret.mode, secret.user) == (0o600, "mail")


# what tasks can do


def test_task_has_loopback_only_and_the_hosts_network_where_it_asks(lab: Lab, look: Look) -> None:
    @filesystem_task("sealed")
    async def sealed(fs: AsyncFilesystem) -> None:
        await fs.run("cat /proc/net/dev > /sealed")

    @filesystem_task("open", network=True)
    async def open_(fs: AsyncFilesystem) -> None:
        await fs.run("cat /proc/net/dev > /open")

    opened = look(lab.build(DEBIAN.with_(sealed, open_)))

    def interfaces(path: str) -> set[str]:
        lines = opened.read_text(path).splitlines()[2:]
        return {line.partition(":")[0].strip() for line in lines}

    assert interfaces("/sealed") == {"lo"}
    here = Path("/proc/self/net/dev").read_text().splitlines()[2:]
    assert interfaces("/open") == {line.partition(":")[0].strip() for line in here}


def test_task_with_the_network_cannot_change_files_and_settings_of_the_host(
    lab: Lab, look: Look
) -> None:
    @filesystem_task("link")
    async def link(fs: AsyncFilesystem) -> None:
        await fs.run("ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf")

    @filesystem_task("write", network=True)
    async def write(fs: AsyncFilesystem) -> None:
        settings = ("vm/swappiness", "kernel/panic", "net/ipv4/ip_default_ttl")
        paths = ["/etc/hosts", "/etc/resolv.conf", *(f"/proc/sys/{name}" for name in settings)]
        for path in paths:
            await fs.run(f"! test -w {path}")  # as root: the file system is read-only
        await fs.run("cat /etc/resolv.conf > /resolv; cat /etc/hosts > /hosts")

    @filesystem_task("sealed")
    async def sealed(fs: AsyncFilesystem) -> None:
        await fs.run(
            "test -w /proc/sys/net/ipv4/ip_default_ttl && ! test -w /proc/sys/vm/swappiness"
        )

    opened = look(lab.build(DEBIAN.with_(link, write, sealed)))
    assert opened.read_text("/resolv") == Path("/etc/resolv.conf").read_text()
    assert opened.read_text("/hosts") == Path("/etc/hosts").read_text()


def test_packages_come_from_outside_and_leave_no_trace_of_how(lab: Lab, look: Look) -> None:
    @filesystem_task("tools")
    async def tools(fs: AsyncFilesystem) -> None:
        await fs.install("hello", "jq")
        await fs.purge("hello")

    built = lab.build(DEBIAN.with_(tools))
    opened = look(built)
    assert "jq" in opened.packages
    assert "libjq1" in opened.packages
    assert "hello" not in opened.packages
    assert opened.run("echo '{\"a\": 1}' | jq .a").stdout == "1\n"
    assert opened.run("apt-mark showmanual").stdout.split().count("jq") == 1
    assert "libjq1" not in opened.run("apt-mark showmanual").stdout.split()
    tree = built.layers[-1].tree
    assert not list(tree.glob("var/cache/apt/archives/*.deb"))
    assert not list(tree.glob("var/log/apt/*"))
    assert not (tree / "usr/sbin/policy-rc.d").exists()
    assert not (tree / "run").exists() or not list((tree / "run").iterdir())


def test_changes_and_removals_are_in_the_layer(lab: Lab, look: Look) -> None:
    @filesystem_task("change")
    def change(fs: Filesystem) -> None:
        fs.run("rm /etc/debian_version; rm -r /var/mail; mkdir /var/mail; touch /var/mail/new")

    @filesystem_task("again")
    def again(fs: Filesystem) -> None:
        fs.run("test ! -e /etc/debian_version; echo 13 > /etc/debian_version; rm /var/mail/new")

    opened = look(lab.build(DEBIAN.with_(change, again)))
    assert opened.read_text("/etc/debian_version") == "13\n"
    assert not opened.exists("/var/mail/new")


@pytest.mark.usefixtures("python_for_ansible")
def test_ansible_needs_no_python_in_the_image(
    lab: Lab, look: Look, module: Module, greeter: Path
) -> None:
    role = greeter / "roles" / "motd" / "tasks"
    role.mkdir(parents=True)
    (role / "main.yml").write_text(
        "- name: say it\n  ansible.builtin.copy: {dest: /etc/motd, content: 'one {{ port }}'}\n"
    )
    text = """
@filesystem_task("motd")
async def motd(fs):
    await fs.ansible(role="roles/motd", extra_vars={"port": 80})

image = Image.debian("bookworm", name="small").with_(motd)
"""
    first = lab.build(module(text)["image"])  # type: ignore[arg-type]
    opened = look(first)
    assert opened.read_text("/etc/motd") == "one 80"
    assert not opened.exists("/usr/bin/python3")
    assert not list(first.layers[-1].tree.rglob("*ansible*"))
    assert "program:ansible-core" in first.layers[-1].meta.inputs
    lab.notes.clear()
    assert lab.build(module(text)["image"]).layers == first.layers  # type: ignore[arg-type]
    assert lab.notes == []
    (role / "main.yml").write_text((role / "main.yml").read_text().replace("one", "two"))
    second = lab.build(module(text)["image"])  # type: ignore[arg-type]
    assert made(second, first) == ["motd"]


@pytest.mark.usefixtures("python_for_ansible")
def test_ansible_has_the_network_of_its_task(
    lab: Lab, look: Look, module: Module, greeter: Path
) -> None:
    (greeter / "look.yml").write_text(
        "- hosts: all\n  gather_facts: false\n  tasks:\n"
        "  - copy: {dest: /etc/seen, content: \"{{ lookup('pipe', 'ls /sys/class/net') }}\"}\n"
    )
    text = """
@filesystem_task("look"{network})
async def look(fs):
    await fs.ansible("look.yml"{outside})

image = Image.debian("bookworm", name="small").with_(look)
"""

    def seen(**given: str) -> list[str]:
        words = {"network": "", "outside": "", **given}
        built = lab.build(module(text.format(**words))["image"])  # type: ignore[arg-type]
        return look(built).read_text("/etc/seen").split()

    assert seen() == ["lo"]
    assert seen(network=", network=True") == sorted(
        path.name for path in Path("/sys/class/net").iterdir()
    )
    expected = r"image 'small': nothing leads out of a build; try: network=True for the task"
    with pytest.raises(BuildError, match=expected):
        seen(outside=", outside='far:443'")


@pytest.fixture
def playbook(greeter: Path) -> Path:
    """A playbook that reads files of many kinds."""
    files = {
        "site.yml": """
            - hosts: all
              gather_facts: false
              vars_files: [../shop.yml]
              roles: [web]
              tasks:
                - ansible.builtin.copy: {src: motd, dest: /etc/motd}
                - ansible.builtin.include_tasks: more.yml
                - ansible.builtin.copy: {dest: /var/x, content: "{{ lookup('file', 'looked') }}"}
            """,
        "motd": "one",
        "more.yml": "- ansible.builtin.copy: {dest: /var/more, content: one}",
        "looked": "one",
        "../shop.yml": "shop: one",
        "roles/web/meta/main.yml": "dependencies: [common]",
        "roles/web/tasks/main.yml": "- ansible.builtin.copy: {dest: /var/web, content: one}",
        "roles/common/tasks/main.yml": "- ansible.builtin.copy: {dest: /var/c, content: one}",
        "other": "one",
    }
    for name, text in files.items():
        path = greeter / "plays" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return greeter / "plays"


@pytest.mark.usefixtures("python_for_ansible")
def test_all_that_ansible_reads_are_inputs(lab: Lab, module: Module, playbook: Path) -> None:
    text = """
@filesystem_task("apply")
async def apply(fs):
    await fs.ansible("plays/site.yml")

@filesystem_task("role")
async def role(fs):
    await fs.ansible(role="plays/roles/web")

image = Image.debian("bookworm", name="small").with_({})
"""

    def inputs(task: str) -> set[str]:
        built = lab.build(module(text.format(task))["image"])  # type: ignore[arg-type]
        return {name for name, seen in built.layers[-1].meta.inputs.items() if seen}

    roles = {"plays/roles/web", "plays/roles/common", "program:ansible-core"}
    files = {"site.yml", "motd", "more.yml", "looked"}
    assert inputs("apply") == {*roles, "shop.yml", *(f"plays/{name}" for name in files)}
    assert inputs("role") == roles
    # it would count if it were there
    (playbook / "group_vars").mkdir()
    image: Any = module(text.format("apply"))["image"]
    wanted = lab.portal.call(lambda: recipe.look(image, lab.store))
    assert wanted[-1].why == "changed: plays/group_vars"


# what goes wrong


def failing(lab: Lab, image: Image, policy: Policy | None = None) -> str:
    with pytest.raises(BuildError) as caught:
        lab.build(image, policy)
    assert lab.traces() == []
    return str(caught.value)


def test_task_that_fails_is_told_with_its_command_and_leaves_nothing(lab: Lab) -> None:
    @filesystem_task("break")
    def break_(fs: Filesystem) -> None:
        fs.run("echo almost; echo no good >&2; exit 3")

    message = failing(lab, DEBIAN.with_(break_))
    assert "image 'small', layer 1 of 1: task 'break' (" in message
    assert "test_builder.py:" in message
    assert "exited with status 3" in message
    assert "almost\n  no good" in message
    assert len(list(lab.store.layers)) == 1


def test_broken_build_is_kept_where_that_is_asked_for(lab: Lab) -> None:
    @filesystem_task("break")
    def break_(fs: Filesystem) -> None:
        fs.run("echo evidence > /evidence; false")

    message = failing(lab, DEBIAN.with_(break_), Policy(keep_broken=True))
    assert message.endswith("kept for a look: pytest-carthage images shell small")
    place = lab.store.folder("broken") / "small"
    assert (place / "tree/evidence").read_text() == "evidence\n"


def test_broken_build_of_a_long_name_is_kept_by_a_shorter_one(lab: Lab) -> None:
    @filesystem_task("break")
    def break_(fs: Filesystem) -> None:
        fs.run("false")

    for end in ("a", "b"):
        image = DEBIAN.with_(break_, name="é" * 99 + end)
        assert "'false' exited with status 1" in failing(lab, image, Policy(keep_broken=True))
    assert len(list(lab.store.folder("broken").iterdir())) == 2


def _next_of_nothing(fs: Filesystem) -> None:
    next(iter(()))


def _asserts(fs: Filesystem) -> None:
    assert fs.exists("/nowhere"), "nothing"


async def _several(fs: AsyncFilesystem) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fs.run("exit 3"))


def _prints_a_long_line(fs: Filesystem) -> None:
    fs.run("head -c 3000000 /dev/zero | tr '\\0' x; exit 3")


def _installs_two_in_one(fs: Filesystem) -> None:
    fs.install("nginx figlet")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        pytest.param(_next_of_nothing, "failed: RuntimeError: StopIteration", id="iterator"),
        pytest.param(
            _asserts, r"AssertionError: nothing \(at \S+/test_builder.py:\d+\)", id="assert"
        ),
        pytest.param(_several, "failed: 'exit 3' exited with status 3", id="task group"),
        pytest.param(_installs_two_in_one, "'nginx figlet' is no name", id="name of a package"),
        pytest.param(_prints_a_long_line, r"xxxx \.\.\.$", id="long line"),
    ],
)
def test_exception_of_a_task_is_told_with_its_cause(lab: Lab, function: Any, told: str) -> None:
    message = failing(lab, DEBIAN.with_(filesystem_task("fail")(function)))
    assert re.search(told, message, re.DOTALL)
    assert len(message) < 2000


def test_pipe_is_no_file_to_copy(lab: Lab, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "put takes files and folders" in failing(
        lab, DEBIAN.with_(File(tmp_path / "pipe", "/x"))
    )


def test_package_that_does_not_exist_is_named(lab: Lab) -> None:
    @filesystem_task("tools")
    async def tools(fs: AsyncFilesystem) -> None:
        await fs.install("jqq-no-such")

    assert "jqq-no-such" in failing(lab, DEBIAN.with_(tools))


def test_template_variable_that_is_missing_is_named_with_its_line(
    lab: Lab, module: Module, greeter: Path
) -> None:
    (greeter / "greeter.j2").write_text("port = {{ port }}\nname = {{ nmae }}\n")
    message = failing(lab, module(ROLE)["image"])  # type: ignore[arg-type]
    assert "greeter.j2:2: 'nmae' is undefined" in message
    assert "the variables are: port, role" in message


def test_file_that_is_missing_is_named(lab: Lab) -> None:
    message = failing(lab, DEBIAN.with_(File("no-such-file", "/x")))
    assert "no-such-file" in message
    assert "no such file on the host" in message


def test_network_task_is_refused_offline(lab: Lab) -> None:
    @filesystem_task("fetch", network=True)
    def fetch(fs: Filesystem) -> None:
        fs.run("true")

    message = failing(lab, DEBIAN.with_(fetch), Policy(offline=True))
    assert "task 'fetch'" in message
    assert "wants the network, and this run is offline" in message


def test_disk_that_is_full_is_told_so(small: Built, portal: Any, tmp_path: Path) -> None:
    place = tmp_path / "full"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=False
    )
    if done.returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        lab = Lab(place, portal)
        lab.lend(small)

        @filesystem_task("fill")
        def fill(fs: Filesystem) -> None:
            fs.run("head -c 10000000 /dev/zero > /big")

        with pytest.raises(BuildError) as caught:
            lab.build(DEBIAN.with_(fill))
        message = str(caught.value)
        assert list(lab.store.folder("work").iterdir()) == []
        assert "No space left on device" in message
        assert "pytest-carthage images gc" in message
        lab.store.release()
    finally:
        subprocess.run(["umount", str(place)], check=True)


# several at once, and those that are killed

PROGRAM = """
import sys, time
from pathlib import Path
from pytest_carthage import Image, filesystem_task
from pytest_carthage.images.builder import ensure
from pytest_carthage.store.root import Store
from pytest_carthage.portal import Portal

store, count = Store(Path(sys.argv[1])), Path(sys.argv[2])

@filesystem_task("slow")
def slow(fs):
    with count.open("a") as file:
        file.write("x")
    # what the key knows nothing of
    fs.run("echo begun > /begun; sleep " + sys.modules["__main__"].__dict__["sys"].argv[3])

image = Image.debian("bookworm", name="small").with_(slow)
portal = Portal()
note = lambda who, text: print(text, flush=True)
built = portal.call(lambda: ensure(image, portal=portal, note=note, store=store))
print("key", built.layers[-1].key, flush=True)
"""


class Program:
    """Processes that build the same image."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.path = folder / "build.py"
        self.path.write_text(PROGRAM)
        self.count = folder / "count"
        self.lab = lab

    def start(self, seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.path), str(self.lab.store.root), str(self.count)]
        return subprocess.Popen(
            [*command, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait_until_begun(self) -> None:
        deadline = time.monotonic() + 30
        while not list(self.lab.store.folder("work").glob("*/tree/begun")):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @property
    def builds(self) -> int:
        return len(self.count.read_text()) if self.count.exists() else 0


@pytest.fixture
def program(lab: Lab, tmp_path: Path) -> Program:
    return Program(lab, tmp_path)


def test_image_is_built_once_however_many_ask(program: Program) -> None:
    processes = [program.start(0.5) for _ in range(4)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    keys = {line for text in outputs for line in text.splitlines() if line.startswith("key")}
    assert len(keys) == 1, outputs
    assert program.builds == 1
    waited = [text for text in outputs if "waits for another build of it" in text]
    assert len(waited) == 3
    assert all("slow (1 of 1)" in text for text in waited)


def test_threads_of_one_process_build_it_once(lab: Lab) -> None:
    times: list[float] = []

    @filesystem_task("slow")
    def slow(fs: Filesystem) -> None:
        times.append(time.monotonic())
        fs.run("sleep 0.2")

    results: list[Built] = []
    image = DEBIAN.with_(slow)
    threads = [threading.Thread(target=lambda: results.append(lab.build(image))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({built.layers[-1].key for built in results}) == 1
    assert len(times) == 1


def test_build_that_is_killed_leaves_no_process_and_does_not_block_the_next(
    lab: Lab, program: Program
) -> None:
    process = program.start(60)
    program.wait_until_begun()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while any("/work/" not in trace or "overlay" in trace for trace in lab.traces()):
        assert time.monotonic() < deadline, lab.traces()
        time.sleep(0.02)
    text = program.start(0).communicate(timeout=60)[0]
    assert "key" in text
    assert lab.traces() == []


def test_build_that_is_cancelled_leaves_nothing(lab: Lab) -> None:
    begun = threading.Event()

    @filesystem_task("slow")
    async def slow(fs: AsyncFilesystem) -> None:
        begun.set()
        await fs.run("sleep 60")

    async def cancel() -> None:
        import asyncio

        from pytest_carthage.images.builder import ensure

        image = DEBIAN.with_(slow)
        task = asyncio.create_task(
            ensure(image, portal=lab.portal, note=lambda who, text: None, store=lab.store)
        )
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    lab.portal.call(cancel)
    assert lab.traces() == []


def test_many_layers_are_no_problem(lab: Lab, look: Look) -> None:
    small = lab.build(DEBIAN)
    layers = list(small.layers)
    for number in range(50):
        work = lab.store.work(f"{number:032x}")
        (work / "tree").mkdir(parents=True)
        for name in (f"n{number}", "last"):
            (work / "tree" / name).write_text(f"{number}\n")
        meta = LayerMeta(key=work.name, parent=layers[-1].key, kind="task", title=f"layer {number}")
        layers.append(lab.store.layers.commit(work, meta))
    opened = look(replace(small, layers=tuple(layers)))
    assert len(opened.layers) == 51
    # their names would not fit in the one page that mount(2) takes
    assert len(":".join(str(layer.tree) for layer in opened.layers)) > 4096
    assert opened.read_text("/last") == "49\n"
    assert opened.run("ls -d /n* | wc -l").stdout == "50\n"


def test_task_with_the_network_has_the_hosts_proxies_and_certificates_and_leaves_none(
    lab: Lab, look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trusted.pem").write_text("certificates of a company\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    tell = 'for n in SSL_CERT_FILE PIP_CERT CURL_CA_BUNDLE; do eval "cat \\"\\$$n\\""; done'

    @filesystem_task("fetch", network=True)
    async def fetch(fs: AsyncFilesystem) -> None:
        assert (await fs.run(tell)).stdout == "certificates of a company\n" * 3
        assert (await fs.run("echo $https_proxy")).stdout == "http://proxy.example:3128\n"

    @filesystem_task("see")
    async def see(fs: AsyncFilesystem) -> None:
        assert (await fs.run("echo $https_proxy$SSL_CERT_FILE; ls /run")).stdout == "\nlock\n"

    handle = look(lab.build(DEBIAN.with_(fetch, see)))
    assert not handle.exists("/run/carthage-certificates.pem")
