"""``images``: what is told of images, and what is done to them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_carthage.cli import main, reference
from pytest_carthage.cli.output import size
from pytest_carthage.cli.usage import Usage
from pytest_carthage.state.listing import list_environments
from pytest_carthage.store.holding import Holding
from pytest_carthage.store.root import Store
from tests.cli.conftest import Run
from tests.cli.terminal import Terminal
from tests.cli.test_commands import complaint
from tests.support.shelf import Shelf, key_of, tiny_system

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shelf(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """The store that the commands see."""
    monkeypatch.setenv("CARTHAGE_IMAGES", str(folder / "images"))
    return Shelf(folder / "images")


@pytest.fixture
def two(shelf: Shelf) -> Shelf:
    """Images web and db, which have their base in common."""
    base = shelf.layer("base debian", kib=64)
    web = shelf.layer("install nginx", base, role="Nginx", inputs={"site.conf": "3f" * 32})
    db = shelf.layer("install postgres", base)
    shelf.image("web", base, web, tag="localhost/web:1")
    shelf.image("db", base, db, days=2)
    return shelf


def told(capfd: Capture, *arguments: str) -> str:
    """What a command prints."""
    capfd.readouterr()
    status = main(["images", *arguments])
    out, err = capfd.readouterr()
    assert status == 0, err
    return out


def refused(capfd: Capture, *arguments: str, status: int = 2) -> str:
    return complaint(capfd, "images", *arguments, status=status)


# ls


def test_ls_without_images_says_where_they_would_be(shelf: Shelf, capfd: Capture) -> None:
    assert told(capfd, "ls") == f"no image was built in {shelf.store.root}\n"
    assert json.loads(told(capfd, "ls", "--json"))["images"] == []


def test_ls_shows_own_and_shared_size_and_the_last_used_first(two: Shelf, capfd: Capture) -> None:
    head, web, db, sum_ = told(capfd, "ls").splitlines()
    columns = ["NAME", "TAG", "KEY", "LAYERS", "OWN", "SHARED", "BUILT", "USED", "STATE"]
    assert head.split() == columns
    key = key_of("image web")[:12]
    assert re.fullmatch(
        rf"web +localhost/web:1 +{key} +2 +\d+ KiB +\d+ KiB +\d+ s ago +\d+ s ago +unused", web
    )
    assert re.fullmatch(r"db +- +\w{12} +2 .* 2 d ago +2 d ago +unused", db)
    assert re.fullmatch(rf"3 layers, \d+ KiB, in {two.store.root}", sum_)


def test_ls_tells_who_is_in_use_incomplete_or_in_no_image(two: Shelf, capfd: Capture) -> None:
    stray = two.layer("stray")
    other = Store(two.store.root)
    assert other.hold(key_of("install nginx"))
    (two.store.folder("layers") / key_of("install postgres")).rename(two.store.root / "away")
    _, web, db, _, unnamed = told(capfd, "ls").splitlines()
    assert web.endswith("  in use")
    assert db.endswith("  incomplete")
    assert unnamed.startswith("1 layer of these (")
    assert unnamed.endswith(") in no image; remove: pytest-carthage images gc")
    rows = json.loads(told(capfd, "ls", "--json"))
    assert [user["pid"] for user in rows["images"][0]["users"]] == [os.getpid()]
    assert rows["images"][1]["complete"] is False
    assert rows["unnamed"] == [stray.key]
    other.release()


def test_ls_shows_broken_builds_and_what_is_being_built(two: Shelf, capfd: Capture) -> None:
    two.broken("web", next(iter(two.store.layers)), task="configure", days=1)

    async def build() -> str:
        async with two.store.claims.claimed(key_of("step"), print) as claim:
            claim.tell("install bird (2 of 3)", "router")
            return await asyncio.to_thread(told, capfd, "ls")

    out = asyncio.run(build())
    assert re.search(
        r"\n\nBROKEN BUILD +IMAGE +TASK THAT FAILED +SIZE +WHEN\n"
        r"web +web +configure +\d.* KiB +1 d ago\n",
        out,
    )
    assert out.endswith(f"\nbeing built\n  router: install bird (2 of 3) (process {os.getpid()})\n")
    assert "being built" not in told(capfd, "ls")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (4096, "4.0 KiB"),
        (130 << 20, "130 MiB"),
        (1023 << 20, "1.0 GiB"),
        (5 << 40, "5120 GiB"),
    ],
)
def test_size_is_in_the_largest_unit(count: int, text: str) -> None:
    assert size(count) == text


# NAME


def test_name_may_be_a_tag_or_the_beginning_of_a_key(two: Shelf, capfd: Capture) -> None:
    history = told(capfd, "history", "web")
    for name in ("localhost/web:1", key_of("image web")[:5], key_of("install nginx")[:9]):
        assert told(capfd, "history", name) == history


def test_name_that_is_unknown_lists_what_there_is(shelf: Shelf, capfd: Capture) -> None:
    assert refused(capfd, "history", "shop") == (
        "image 'shop': no image was built here; see `pytest-carthage images ls`, "
        "or build one: pytest-carthage images build PATH.py:Class"
    )
    base = shelf.layer("base")
    shelf.image("web", base)
    shelf.broken("ruin", base)
    assert refused(capfd, "history", "shop") == "there is no image 'shop'; there are: web"
    for verb in ("rm", "shell"):
        assert refused(capfd, verb, "shop", *(["true"] if verb == "shell" else [])) == (
            "there is no image 'shop'; there are: web, ruin (broken)"
        )


@pytest.mark.parametrize("verb", ["history", "rm"])
def test_name_of_several_lists_their_keys(shelf: Shelf, capfd: Capture, verb: str) -> None:
    base = shelf.layer("base")
    shelf.image("web", base)
    shelf.image("web", base, shelf.layer("more", base), version="2", days=3)
    first, one, other = refused(capfd, verb, "web").splitlines()
    assert first == "image 'web': which one? say its key:"
    assert re.fullmatch(rf"  {key_of('image web')[:12]}  web, 1 layer, used \d s ago", one)
    assert other == f"  {key_of('image web2')[:12]}  web, 2 layers, used 3 d ago"
    assert len(shelf.names()) == 2


# rm


def test_rm_removes_what_no_other_image_needs(two: Shelf, capfd: Capture) -> None:
    key = key_of("image web")[:12]
    assert re.fullmatch(
        rf"removed web \({key}\): 1 layer, \d+ KiB; 1 layer stays for db\n",
        told(capfd, "rm", "web"),
    )
    assert two.titles() == {"base debian", "install postgres"}
    assert re.fullmatch(r"removed db \(\w+\): 2 layers, \d+ KiB\n", told(capfd, "rm", "db"))
    assert two.titles() == set()


def test_rm_of_all_images_that_share_a_layer_leaves_nothing(two: Shelf, capfd: Capture) -> None:
    rows = json.loads(told(capfd, "rm", "web", "db", "--json"))
    assert [row["kind"] for row in rows] == ["layer"] * 3
    assert two.titles() == set()


def test_rm_leaves_what_stands_below_others(shelf: Shelf, capfd: Capture) -> None:
    base = shelf.layer("base")
    shelf.image("plain", base)
    shelf.layer("being built on it", base)
    assert told(capfd, "rm", "plain").endswith(": 0 layers, 0 B; 1 layer stays below others\n")
    assert shelf.titles() == {"base", "being built on it"}


def test_rm_refuses_what_is_in_use_and_names_the_process(two: Shelf, capfd: Capture) -> None:
    code = (
        "import sys; from pytest_carthage.store.root import Store; from pathlib import Path;"
        "store = Store(Path(sys.argv[1]));"
        "print(store.hold(sys.argv[2]), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(two.store.root), key_of("install nginx")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        text = refused(capfd, "rm", "db", "web", status=1)
        process.communicate()
    key = key_of("image web")[:12]
    assert text.startswith(f"image 'web' ({key}) is in use by process {process.pid} (")
    assert text.endswith("); try: when that has ended")
    # nothing has gone, db neither
    assert two.names() == ["db", "web"]


def test_rm_removes_broken_builds_by_name(two: Shelf, capfd: Capture) -> None:
    path = two.broken("ruin", next(iter(two.store.layers)))
    other = Holding()
    assert other.add(path)
    assert refused(capfd, "rm", "ruin", status=1) == (
        "broken build 'ruin': somebody looks into it just now"
    )
    other.release()
    assert re.fullmatch(r"removed broken build ruin \(\d.* KiB\)\n", told(capfd, "rm", "ruin"))
    assert not path.exists()
    assert two.names() == ["db", "web"]


# gc


def test_gc_tells_what_and_how_much(two: Shelf, capfd: Capture) -> None:
    assert told(capfd, "gc") == "nothing to remove\n"
    out = told(capfd, "gc", "--older-than", "1d", "--dry-run").splitlines()
    assert out[0] == f"would remove image: db ({key_of('image db')[:12]})"
    postgres = key_of("install postgres")[:12]
    assert re.fullmatch(rf"would remove layer: install postgres \({postgres}\), \d+ KiB", out[1])
    assert re.fullmatch(r"\d+ KiB would be freed", out[2])
    assert len(two.titles()) == 3
    done = told(capfd, "gc", "--older-than", "1d").splitlines()
    assert [line.replace("would remove", "removed") for line in out[:2]] == done[:2]
    assert re.fullmatch(r"\d+ KiB freed", done[2])
    assert two.titles() == {"base debian", "install nginx"}
    assert json.loads(told(capfd, "gc", "--json")) == []


def test_gc_refuses_what_is_no_duration(shelf: Shelf, capfd: Capture) -> None:
    assert refused(capfd, "gc", "--older-than", "7") == (
        "--older-than: '7' is no duration; write a number and a unit (s, m, h, d), "
        "as in 8h or 1d12h"
    )


# history


def test_history_tells_layer_by_layer(two: Shelf, capfd: Capture) -> None:
    head, base, nginx, empty, inputs, site = told(capfd, "history", "web").splitlines()
    assert head.split() == ["LAYER", "MADE", "TOOK", "SIZE", "ROLE", "TITLE"]
    assert re.fullmatch(
        rf"{key_of('base debian')[:12]}  2023-11-1\d \d\d:\d\d  2\.5 s +\d+ KiB  - +base debian",
        base,
    )
    assert re.search(r" Nginx +install nginx$", nginx)
    assert (empty, inputs, site) == (
        "",
        "install nginx was made of",
        "  site.conf  3f3f3f3f3f3f",
    )
    rows = json.loads(told(capfd, "history", "web", "--json"))
    assert [row["images"] for row in rows] == [2, 1]
    assert rows[1]["inputs"] == {"site.conf": "3f" * 32}


def test_history_of_an_image_with_layers_gone_says_so(two: Shelf, capfd: Capture) -> None:
    (two.store.folder("layers") / key_of("install nginx")).rename(two.store.root / "away")
    assert "\n1 layer of it gone" in told(capfd, "history", "web")
    assert refused(capfd, "save", "web", "web.tar", status=1) == (
        f"image 'web' ({key_of('image web')[:12]}): some of its layers are gone or "
        "damaged; try: pytest-carthage images check, pytest-carthage images build"
    )


# shell


@pytest.fixture
def system(shelf: Shelf, tmp_path: Path) -> Shelf:
    """An image with programs that run: tiny, and a broken build on it."""
    tree = tiny_system(tmp_path / "system")
    (tree / "etc/passwd").unlink()  # there are such images
    base = shelf.layer("base", tree=tree)
    shelf.image("tiny", base, config={"env": [["GREETING", "hello"]]})
    shelf.broken("ruin", base)
    return shelf


@pytest.mark.real
def test_shell_runs_a_command_in_a_copy(system: Shelf, command: Run) -> None:
    script = "hostname; echo $GREETING; cat; echo no >&2; echo x >/etc/new; exit 7"
    done = command("images", "shell", "tiny", "--", "sh", "-c", script, stdin="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "tiny\nhello\nin\n", "no\n")
    again = command("images", "shell", "tiny", "cat", "/etc/new")
    assert again.returncode == 1
    assert list(system.store.folder("work").iterdir()) == []
    assert str(system.store.root) not in Path("/proc/mounts").read_text()


@pytest.mark.real
def test_shell_opens_a_broken_build_as_its_task_left_it(system: Shelf, command: Run) -> None:
    done = command("images", "shell", "ruin", "--", "cat", "/etc/half")
    assert (done.returncode, done.stdout) == (0, "done\n")
    told = r"broken build of image 'ruin': task 'install' failed \d+ s ago\n"
    assert re.fullmatch(told, done.stderr)


@pytest.mark.real
@pytest.mark.parametrize(("days", "seen"), [(1, "tiny\n"), (0, "broken\n")])
def test_shell_opens_what_was_made_last_of_a_name(
    system: Shelf, command: Run, days: float, seen: str
) -> None:
    path = system.broken("tiny", next(iter(system.store.layers)), days=days)
    (path / "tree/etc/name").write_text("broken\n")
    script = "if [ -e /etc/name ]; then cat /etc/name; else hostname; fi"
    assert command("images", "shell", "tiny", "--", "sh", "-c", script).stdout == seen
    key = key_of("image tiny")[:12]
    assert command("images", "shell", key, "--", "sh", "-c", script).stdout == "tiny\n"


@pytest.mark.real
def test_shell_tells_of_a_program_that_is_not_there(system: Shelf, command: Run) -> None:
    done = command("images", "shell", "tiny", "--", "no-such-program")
    assert done.returncode == 127
    assert done.stderr.startswith("pytest-carthage: cannot run 'no-such-program': ")


@pytest.mark.real
def test_shell_is_on_the_terminal_and_leaves_nothing(system: Shelf) -> None:
    terminal = Terminal("images", "shell", "tiny")
    try:
        terminal.type("echo name-$(hostname)\n")
        terminal.expect("name-tiny")
        terminal.type("exit 9\n")
        assert terminal.process.wait(20) == 9
    finally:
        terminal.close()
    assert list(system.store.folder("work").iterdir()) == []


@pytest.mark.real
def test_shell_that_is_killed_leaves_what_gc_removes(system: Shelf, capfd: Capture) -> None:
    terminal = Terminal("images", "shell", "tiny")
    try:
        terminal.type("echo name-$(hostname)\n")
        terminal.expect("name-tiny")
        (path,) = system.store.folder("work").iterdir()
        assert told(capfd, "gc") == "nothing to remove\n"
        terminal.process.kill()
        terminal.process.wait()
    finally:
        terminal.close()
    assert f"removed work folder: {path.name}" in told(capfd, "gc")
    assert not path.exists()


def test_shell_without_terminal_says_what_to_do(two: Shelf, command: Run) -> None:
    done = command("images", "shell", "web")
    assert done.returncode == 2
    assert done.stderr == (
        "pytest-carthage: shell needs a terminal; for a script: "
        "pytest-carthage images shell web -- COMMAND\n"
    )


def test_shell_of_a_broken_build_without_layers_below_says_so(shelf: Shelf, capfd: Capture) -> None:
    base = shelf.layer("base")
    shelf.broken("ruin", base)
    base.path.rename(shelf.store.root / "away")
    assert refused(capfd, "shell", "ruin", "true", status=1) == (
        "broken build 'ruin': the layers below it are gone; try: build it again"
    )


# save and push


@pytest.mark.real
def test_save_writes_what_the_name_says(two: Shelf, folder: Path, capfd: Capture) -> None:
    assert re.fullmatch(r"web\.tar\.gz: \d+ KiB\n", told(capfd, "save", "web", "web.tar.gz"))
    names = subprocess.run(
        ["tar", "-tf", "web.tar.gz"], capture_output=True, text=True, check=True
    ).stdout
    assert "install-nginx" in names
    assert "base-debian" in names
    assert told(capfd, "save", "-q", "web", "web.oci.tar").startswith("web.oci.tar: ")


def test_save_and_push_refuse_what_makes_no_sense(two: Shelf, capfd: Capture) -> None:
    assert refused(capfd, "save", "-q", "web", "web.zip", status=1) == (
        "image 'web': 'web.zip' does not say what it is to be; try: NAME.oci.tar (OCI archive), "
        "NAME.tar.gz (root file system), NAME.qcow2 (disk)"
    )
    assert refused(capfd, "push", "-q", "web", "somewhere", status=1) == (
        "image 'web': pushed to somewhere: that is no registry's address; "
        "try: docker://HOST:PORT/NAME:TAG"
    )


# build


SUITE = """
from pytest_carthage import File, Image, Layout, Machine, Network, filesystem_task

tiny = Image.rootfs("system", name="tiny")


@filesystem_task("fail half way")
def fail(fs):
    fs.run("echo half >/etc/half; exit 3")


good = tiny.with_(File("motd", "/etc/motd"), name="good")
bad = tiny.with_(fail, name="bad")
number = 6


class Lab(Layout):
    net = Network("10.0.0.0/24")
    one = Machine(good, links={"eth0": net.at(".1")})
    unused = bad


class Bare(Layout):
    one = Machine()
"""


@pytest.fixture
def suite(shelf: Shelf, folder: Path) -> Iterator[Shelf]:
    tiny_system(folder / "system")
    (folder / "motd").write_text("welcome\n")
    (folder / "lab.py").write_text(SUITE)
    yield shelf
    shelf.store.release()


@pytest.mark.real
def test_build_makes_an_image_once(suite: Shelf, command: Run) -> None:
    first = command("images", "build", "lab.py:good")
    assert re.fullmatch(r"good: 2 layers built in \d\.\d s \(2 layers, .* MiB\)\n", first.stdout), (
        first.stderr
    )
    assert "image good: copy motd to /etc/motd (1 of 1)\n" in first.stderr
    second = command("images", "build", "-q", "lab.py:good")
    assert second.stdout.startswith("good: was there already (2 layers, ")
    assert second.stderr == ""
    looked = command("images", "shell", "good", "--", "cat", "/etc/motd")
    assert looked.stdout == "welcome\n"


@pytest.mark.real
def test_build_of_a_layout_builds_the_others_when_one_fails(suite: Shelf, command: Run) -> None:
    done = command("images", "build", "-q", "--keep-on-fail", "lab.py:Lab")
    assert done.returncode == 1
    assert done.stdout.startswith("good: ")
    assert "task 'fail half way' (" in done.stderr
    assert done.stderr.endswith("\nkept for a look: pytest-carthage images shell unused\n")
    assert "Traceback" not in done.stderr
    looked = command("images", "shell", "unused", "--", "cat", "/etc/half")
    assert looked.stdout == "half\n"
    assert command("images", "rm", "unused").returncode == 0
    rows = json.loads(command("images", "build", "-q", "--json", "lab.py:good").stdout)
    assert [(row["name"], len(row["layers"]), row["built"]) for row in rows] == [("good", 2, [])]


@pytest.mark.real
def test_build_that_is_interrupted_leaves_nothing(suite: Shelf, folder: Path) -> None:
    text = (folder / "lab.py").read_text().replace("echo half >/etc/half; exit 3", "sleep 1000")
    (folder / "lab.py").write_text(text)
    with subprocess.Popen(
        [sys.executable, "-m", "pytest_carthage", "images", "build", "lab.py:bad"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "fail half way" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
    assert "Traceback" not in err
    assert list(suite.store.folder("work").iterdir()) == []
    assert list(suite.store.folder("broken").iterdir()) == []
    assert str(suite.store.root) not in Path("/proc/mounts").read_text()


@pytest.mark.real
def test_build_of_images_with_a_common_base_makes_it_once(
    suite: Shelf, folder: Path, command: Run
) -> None:
    more = """
class Two(Layout):
    net = Network("10.0.0.0/24")
    one = Machine(good, links={"eth0": net.at(".1")})
    two = Machine(tiny, links={"eth0": net.at(".2")})
"""
    with (folder / "lab.py").open("a") as file:
        file.write(more)
    done = command("images", "build", "lab.py:Two")
    assert done.returncode == 0, done.stderr
    assert len(suite.titles()) == 2
    assert "image good: done in " in done.stderr
    assert "image tiny: done in " in done.stderr


def test_fixture_of_an_image_means_the_image(folder: Path) -> None:
    text = (
        "from pytest_carthage import Image\nfix = Image.debian('bookworm', name='own').fixture()\n"
    )
    (folder / "fix.py").write_text(text)
    assert [image.name for image in reference.images("fix.py:fix", None)] == ["own"]
    assert reference.is_image("fix.py:fix")
    with pytest.raises(Usage, match="its images are: fix;"):
        reference.images("fix.py:fox", None)


def test_build_refuses_what_is_not_there(suite: Shelf, folder: Path, capfd: Capture) -> None:
    assert refused(capfd, "build", "lab.py:Bare") == (
        "layout 'Bare' has no images: there is nothing to build"
    )
    assert refused(capfd, "build", "lab.py:goood") == (
        f"lab.py:goood: {folder}/lab.py has no 'goood'; its images are: tiny, good, bad; "
        "its layouts are: Lab, Bare"
    )
    assert "6 is no layout" in refused(capfd, "build", "lab.py:number")
    assert "there is no file" in refused(capfd, "build", "lib.py:Lab")


@pytest.mark.real
def test_rm_names_the_environment_that_uses_an_image(
    suite: Shelf, folder: Path, command: Run, capfd: Capture
) -> None:
    from pytest_carthage.providers.podman import PodmanProvider

    if problems := PodmanProvider().check():
        pytest.skip("; ".join(map(str, problems)))
    text = (folder / "lab.py").read_text().replace("    unused = bad\n", "")
    (folder / "lab.py").write_text(
        text.replace("Machine(good,", "Machine(good, command='exec sleep 1000',")
    )
    up = command("up", "-q", "--name", "try", "lab.py:Lab")
    assert up.returncode == 0, up.stderr
    (alive,) = list_environments()
    listed = command("images", "ls")
    assert listed.stdout.splitlines()[1].endswith("  in use")
    done = command("images", "rm", "good")
    assert done.returncode == 1
    assert re.fullmatch(
        r"pytest-carthage: image 'good' \(\w{12}\) is in use by environment try-lab; "
        r"try: pytest-carthage rm try-lab\n",
        done.stderr,
    )
    assert command("images", "gc", "--older-than", "1s").returncode == 0
    assert suite.names() == ["good"]
    assert command("rm", alive.name).returncode == 0
    assert command("images", "rm", "good").returncode == 0
    assert suite.titles() == set()


# check


def test_check_says_that_all_is_as_recorded(two: Shelf, capfd: Capture) -> None:
    assert told(capfd, "check") == f"3 layers in {two.store.root}: all as recorded\n"
    assert json.loads(told(capfd, "check", "--json")) == []


def test_check_tells_of_damaged_layers_and_puts_them_aside(two: Shelf, capfd: Capture) -> None:
    key = key_of("install nginx")
    path = two.store.layers.path(key)
    (path / "layer.json").write_text('{"key": ')
    capfd.readouterr()
    assert main(["images", "check"]) == 1
    first, second = capfd.readouterr().out.splitlines()
    assert first.startswith(f"damaged layer: ({key[:12]}): layer.json: Expecting value: ")
    assert first.endswith("; in web")
    assert second == "try: pytest-carthage images check --repair, and then the build again"
    assert path.exists()
    _, second = told(capfd, "check", "--repair").splitlines()
    (aside,) = two.store.folder("damaged").iterdir()
    assert second == f"  set aside as {aside}; the next build makes it anew"
    assert not path.exists()
    assert told(capfd, "check") == f"2 layers in {two.store.root}: all as recorded\n"


def test_check_that_reads_all_finds_what_has_changed_since_it_first_did(
    two: Shelf, capfd: Capture
) -> None:
    told(capfd, "check", "--deep")
    assert told(capfd, "check", "--deep").endswith("all as recorded\n")
    file = two.store.layers.path(key_of("install nginx")) / "tree/install-nginx"
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert told(capfd, "check").endswith("all as recorded\n")
    capfd.readouterr()
    assert main(["images", "check", "--deep", "--json"]) == 1
    (row,) = json.loads(capfd.readouterr().out)
    assert (row["text"], row["images"]) == ("the contents of its files are others", ["web"])
    assert row["set_aside"] is None


def test_check_removes_records_that_say_nothing(two: Shelf, capfd: Capture) -> None:
    path = two.store.records.path("e" * 32)
    path.write_text("[]")
    lines = told(capfd, "check", "--repair").splitlines()
    assert lines == [
        f"damaged record: {'e' * 32}.json: it says nothing of an image",
        "  removed; the next build makes it anew",
    ]
    assert not path.exists()
