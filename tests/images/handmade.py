"""Images made by hand: layers as an overlay leaves them, without a builder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Image
from pytest_carthage.errors import Problem
from pytest_carthage.fabric.host.privilege import is_privileged
from pytest_carthage.store.built import Built
from pytest_carthage.store.layer import Layer, LayerMeta
from pytest_carthage.store.root import Store

MADE_AT = 1_700_000_000.0

# a file with all that a tar has to keep, in the order of facts() below
_LOOK = """
import hashlib, json, os, stat, sys
def facts(path):
    info = os.lstat(path)
    told = {"mode": info.st_mode, "owner": [info.st_uid, info.st_gid]}
    if not stat.S_ISDIR(info.st_mode):
        told["mtime"] = int(info.st_mtime)
        told["links"] = info.st_nlink
    if stat.S_ISREG(info.st_mode):
        told["content"] = hashlib.sha256(open(path, "rb").read()).hexdigest()
    if stat.S_ISLNK(info.st_mode):
        told["target"] = os.readlink(path)
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        told["device"] = info.st_rdev
    names = [n for n in os.listxattr(path, follow_symlinks=False) if "overlay" not in n]
    told["attributes"] = {
        n: os.getxattr(path, n, follow_symlinks=False).hex() for n in names if "selinux" not in n
    }
    return told
found = {}
for folder, names, files in os.walk(sys.argv[1]):
    for name in names + files:
        path = os.path.join(folder, name)
        found[os.path.relpath(path, sys.argv[1])] = facts(path)
print(json.dumps(found))
"""

Facts = dict[str, dict[str, Any]]


def skip_without(problems: Sequence[Problem]) -> None:
    """Skip a test on a host that lacks what it needs, with the remedy in sight."""
    if problems:
        pytest.skip("; ".join(map(str, problems)))


def look(folder: Path) -> Facts:
    """All that there is in a folder."""
    return _look(["sh", "-c", 'exec "$@"', "sh", sys.executable, "-I", "-c", _LOOK, str(folder)])


def overlaid(built: Built, mount_at: Path) -> Facts:
    """All that the kernel shows of an image's layers."""
    mount_at.mkdir(exist_ok=True)
    lower = ":".join([*map(str, built.lower), str(_empty(mount_at))])
    script = 'mount -t overlay overlay -o "ro,lowerdir=$1" "$2"; shift 2; exec "$@"'
    command = [sys.executable, "-I", "-c", _LOOK, str(mount_at)]
    return _look(["unshare", "--mount", "sh", "-ec", script, "sh", lower, str(mount_at), *command])


def _empty(beside: Path) -> Path:
    folder = beside.with_name("empty")
    folder.mkdir(exist_ok=True)
    return folder


def _look(argv: Sequence[str]) -> Facts:
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    facts: Facts = json.loads(done.stdout)
    return facts


class Images:
    """A store of a test's own, and layers in it."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.store.prepare()

    def layer(
        self,
        key: str,
        below: Sequence[Layer] = (),
        *,
        title: str = "",
        script: str = "",
        **fields: Any,
    ) -> Layer:
        """A layer of what a script does: in its tree, or above other layers by an overlay."""
        work = self.store.folder("work") / key
        (work / "tree").mkdir(parents=True)
        (work / "tree").chmod(0o755)
        if below and script:
            self._over(work, below, script)
        elif script:
            subprocess.run(["sh", "-ec", script], cwd=work / "tree", check=True)
        meta = LayerMeta(
            key=key,
            parent=below[-1].key if below else None,
            kind="task" if below else "base",
            title=title or key,
            made_at=MADE_AT,
        )
        return self.store.layers.commit(work, replace(meta, **fields))

    def _over(self, work: Path, below: Sequence[Layer], script: str) -> None:
        if not is_privileged():
            pytest.skip("overlays are mounted by root")
        for name in ("merged", "overlay", "bottom"):
            (work / name).mkdir()
        lower = ":".join([*(str(one.tree) for one in reversed(below)), str(work / "bottom")])
        options = f"lowerdir={lower},upperdir={work}/tree,workdir={work}/overlay"
        mount = f"mount -t overlay overlay -o '{options}' '{work}/merged'; cd '{work}/merged'"
        subprocess.run(["unshare", "--mount", "sh", "-ec", f"{mount}\n{script}"], check=True)
        subprocess.run(["rm", "-rf", *(work / n for n in ("merged", "overlay", "bottom"))])

    def built(self, *layers: Layer, image: Image | None = None) -> Built:
        """An image of layers."""
        image = image or Image.debian("bookworm", name="handmade")
        return Built(image=image, layers=layers, config=image.config, store=self.store)

    def leftovers(self) -> list[str]:
        """What is left of work that has ended."""
        return sorted(path.name for path in self.store.folder("work").iterdir())


#: files of every kind: what a tar must keep
BASE = """
mkdir -p etc/keep etc/replaced usr/bin var/cache/old tmp dev
chmod 1777 tmp
echo one > etc/one; echo two > etc/two; echo gone > etc/gone
echo below > etc/replaced/below; echo kept > etc/keep/kept; echo old > var/cache/old/file
ln etc/one usr/bin/linked; ln -s ../etc/one usr/bin/symbolic; ln -s /etc/absolute usr/bin/absolute
mkfifo tmp/pipe
long=$(printf 'n%.0s' $(seq 120)); mkdir -p "usr/$long/$long"; echo long > "usr/$long/$long/$long"
ln -s "$long/$long/$long" usr/to-long
printf 'x' > "$(printf 'etc/latin-\\351')"; echo umlaut > etc/ümlaut
head -c 3000000 /dev/urandom > usr/big; : > etc/empty
touch -d @1000000000 etc/one; touch -d @1600000000.5 etc/two
"""

#: what only root can make
BASE_AS_ROOT = """
mknod dev/null c 1 3; mknod dev/sda b 8 0
chown 1234:5678 etc/two; chown 3000000:3000000 etc/keep/kept; chown -h 42:42 usr/bin/symbolic
cp etc/one usr/bin/capable; setcap cap_net_raw+ep usr/bin/capable; chmod 4755 usr/bin/capable
"""

#: deletions, replacements and additions above it
ABOVE = """
rm etc/gone; rm -r var/cache/old
rm -r etc/replaced; mkdir etc/replaced; echo above > etc/replaced/above
rm -r etc/keep; echo file > etc/keep
echo more >> etc/two; mkdir -p opt/new; echo new > opt/new/file; rm usr/bin/linked
"""


def facts_of(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Some of the facts."""
    return {name: facts.get(name) for name in names}
