"""Machines of the ``podman`` target beside ``podman run`` of the same image on this host."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytest_carthage import Image, Layout, Machine, file, log
from pytest_carthage.errors import CreationError
from pytest_carthage.images.bases.tools import check_tools
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.podman import host
from pytest_carthage.store.built import Built
from tests.support.shelf import tiny_system

from .conftest import Build

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="podman as root"),
]

PROGRAMS = ("sh", "cat", "id", "env", "sort", "grep", "stat", "sleep", "touch", "mkdir", "rm")

#: the image's ENTRYPOINT: tells what it was given, and is healthy a little later
ENTRY = """\
#!/bin/sh
trap 'echo asked to end by QUIT; exit 0' QUIT
echo "arguments: $*"
echo "ids: $(id -u):$(id -g) $(id -G)"
echo "folder: $(pwd)"
echo "data: $(cat /data/file) $(stat -c '%u:%g %a' /data /data/file)"
echo "data is mounted: $(grep -c ' /data ' /proc/self/mountinfo)"
env | grep -vE '^(HOSTNAME|_)=' | sort
grep -E '^(NoNewPrivs|CapEff|CapPrm|CapBnd|CapAmb|Seccomp)' /proc/self/status
stat -c '%n %F %t %T %a' /dev/* | sort
echo told >> /data/file
(sleep 0.3; touch /data/warm) &
echo started
while :; do sleep 0.05; done
"""

CONTAINERFILE = """\
FROM scratch
COPY tree /
COPY --chown=7:7 data /data
ENV GREETING="good day" PATH=/bin:/opt
WORKDIR /work
USER shopper
VOLUME /data
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=7s --timeout=9s --retries=2 CMD test -e /data/warm || { echo cold; exit 1; }
ENTRYPOINT ["/bin/entry", "--of-entrypoint"]
CMD ["of", "cmd"]
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if problems := [*host.check(), *check_tools({"containerfile"})]:
        pytest.skip("; ".join(map(str, problems)))
    folder = tmp_path_factory.mktemp("till")
    tree = tiny_system(folder / "tree", PROGRAMS)
    (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nshopper:x:7:7::/home:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\nshopper:x:7:\ntills:x:9:shopper\n")
    (tree / "bin/entry").write_text(ENTRY)
    (tree / "bin/entry").chmod(0o755)
    (folder / "data").mkdir(mode=0o750)
    (folder / "data/file").write_text("of the image")
    (folder / "Containerfile").write_text(CONTAINERFILE)
    return folder


#: builds the image and runs it, in a store of its own and without a network
PLAIN = """\
umount {hide} 2>/dev/null
mount -t tmpfs tmpfs /dev/shm
alias podman='podman --root {work}/store --runroot /dev/shm/run --tmpdir /dev/shm/libpod \
    --storage-driver=vfs --cgroup-manager=cgroupfs --events-backend=none'
set -e
podman build -q --isolation=chroot --format=docker -t till {context} >/dev/null
podman run -d --name till --network none \
    --ulimit nproc=9000:9000 --ulimit nofile=9000:9000 till >/dev/null
until podman logs till | grep -q started; do sleep 0.05; done
podman stop -t 5 till >/dev/null
podman logs till > {work}/logs 2>&1
podman rm -f -v till >/dev/null
"""


@pytest.fixture(scope="module")
def plain(context: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What it prints under ``podman run``, which is configured as the target configures it."""
    work = tmp_path_factory.mktemp("podman")
    engine = host.find_engine()
    assert engine is not None
    (work / "containers.conf").write_text(engine.configuration())
    script = PLAIN.format(work=work, context=context, hide=engine.hide or "/nowhere")
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        check=True,
        timeout=120,
        env={
            **os.environ,
            "CONTAINERS_CONF": str(work / "containers.conf"),
            "DISABLE_HC_SYSTEMD": "true",
        },
    )
    return (work / "logs").read_text().splitlines()


@pytest.fixture(autouse=True)
def images(built: Built, context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of this module are kept no longer than its tests run."""
    monkeypatch.setenv("CARTHAGE_IMAGES", str(context.with_name(f"{context.name}-images")))


def till_of(context: Path) -> Image:
    return Image.containerfile(context / "Containerfile", context=context, name="till")


def test_container_is_as_podman_run_makes_it(context: Path, plain: list[str], build: Build) -> None:
    class Shop(Layout):
        till = Machine(till_of(context), on="podman", wait_for=[log("started")])

    till: MachineHandle = build(Shop)["till"]
    # it waited until the healthcheck succeeded
    assert till.run("test -e /data/warm").ok
    till.stop(timeout_s=20)
    assert "arguments: --of-entrypoint of cmd" in plain
    assert "ids: 7:7 7 9" in plain
    assert plain[-1] == "asked to end by QUIT"
    assert till.logs().splitlines() == plain
    # a volume outlives a restart
    till.start()
    till.run('until [ "$(grep -c told /data/file)" = 2 ]; do sleep 0.05; done', timeout_s=30)
    assert till.read_text("/data/file") == "of the imagetold\ntold\n"


def test_command_takes_the_place_of_the_images(context: Path, build: Build) -> None:
    class Shop(Layout):
        till = Machine(
            till_of(context).with_(healthcheck=["/bin/sh", "-c", "true"]),
            on="podman",
            command=["/bin/sh", "-c", "id -u; pwd; while :; do sleep 0.1; done"],
            wait_for=[log("/work")],
        )

    assert build(Shop)["till"].logs().split() == ["7", "/work"]


def test_machine_that_is_not_healthy_in_time_is_an_error_with_the_last_check(
    context: Path, build: Build
) -> None:
    class Shop(Layout):
        till = Machine(
            till_of(context).with_(healthcheck=["/bin/sh", "-c", "echo no paper; exit 3"]),
            on="podman",
            ready_timeout_s=1.5,
        )

    with pytest.raises(
        CreationError,
        match=r"(?s)machine 'till' of layout 'Shop': not healthy in 1.5 s; the last check "
        r"'/bin/sh -c echo no paper; exit 3': it failed, and printed: no paper; "
        r"try: ready_timeout_s=[^.]*log: .*\n  started",
    ):
        build(Shop)


def test_machine_that_ends_before_it_is_healthy_is_an_error(context: Path, build: Build) -> None:
    class Shop(Layout):
        till = Machine(
            till_of(context).with_(healthcheck=["/bin/sh", "-c", "touch /data/asked; exit 1"]),
            on="podman",
            command=["/bin/sh", "-c", "until [ -e /data/asked ]; do sleep 0.1; done; exit 4"],
        )

    with pytest.raises(CreationError, match=r"ended with status 4 before it was healthy"):
        build(Shop)


def test_rights_over_the_host_are_those_of_podman_run(context: Path, build: Build) -> None:
    root = till_of(context).with_(user="root", healthcheck=["/bin/sh", "-c", "true"])
    wait = ["/bin/sh", "-c", "while :; do sleep 0.1; done"]

    class Shop(Layout):
        plain = Machine(root, on="podman", command=wait)
        nice = Machine(root, on="podman", command=wait, capabilities=["SYS_NICE"])
        held = Machine(root, on="podman", command=wait, devices=["/dev/fuse:/dev/till:r"])
        full = Machine(root, on="podman", command=wait, privileged=True)

    shop = build(Shop)

    def rights(name: str) -> int:
        return int(shop[name].run("grep CapEff /proc/1/status").stdout.split()[1], 16)

    assert rights("nice") ^ rights("plain") == 1 << 23  # CAP_SYS_NICE
    assert rights("full").bit_count() > 30
    assert shop["full"].run("test -e /dev/kmsg").ok
    assert not shop["plain"].run("test -e /dev/till || test -e /dev/kmsg", check=False).ok
    assert shop["held"].run("stat -c %F /dev/till").lines == ["character special file"]


def test_system_container_begins_where_its_image_says_and_ends_as_it_says(
    context: Path, build: Build
) -> None:
    class Shop(Layout):
        till = Machine(till_of(context), on="netns", wait_for=[file("/data/warm")])

    till = build(Shop, providers={"netns": NetnsProvider})["till"]
    till.stop(timeout_s=20)
    lines = till.logs().splitlines()
    assert {"arguments: --of-entrypoint of cmd", "ids: 7:7 7 9", "folder: /work"} <= set(lines)
    assert "asked to end by QUIT" in lines
