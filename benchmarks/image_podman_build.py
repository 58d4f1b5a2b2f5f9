"""An application image, here and by ``podman build`` of a Containerfile; the base is there.

It has Python and certificates from Debian's archive, settings, a program, and the program's byte
code. *From nothing* means without any layer; lists and archives of packages are there for both
sides, for podman in volumes. *One changed line* is one of the program's, of which its byte code
depends. Both sides end with an image that a container can be started from: ours twice, once as the
layers that our machines have as their root, and once in podman's own store, too (``tag=``).
"""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness import Figure, in_turns, main, seconds
from benchmarks.images import BASE, Bench, PodmanBuild, bench, podman_build
from pytest_carthage import File, Image, filesystem_task
from pytest_carthage.work.files.filesystem import AsyncFilesystem

_PACKAGES = ("ca-certificates", "python3")
_TAG = "localhost/carthage-benchmark-application:1"
_COMPILE = "python3 -m compileall -q /opt/shop"
_CONTAINERFILE = f"""
FROM {BASE.tag}
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q --yes \
    --no-install-recommends {" ".join(_PACKAGES)}
COPY shop.json /etc/shop.json
COPY shop.py /opt/shop/shop.py
RUN {_COMPILE}
CMD ["python3", "/opt/shop/shop.py"]
"""


@filesystem_task("compile the program")
async def _compile(fs: AsyncFilesystem) -> None:
    await fs.run(_COMPILE)


def application(context: Path, tag: str | None) -> Image:
    """The image, as it is declared here."""
    base = Image.debian("bookworm", name="application").with_packages(*_PACKAGES)
    return base.with_(
        File(context / "shop.json", "/etc/shop.json"),
        File(context / "shop.py", "/opt/shop/shop.py"),
        _compile,
        tag=tag,
        command=["python3", "/opt/shop/shop.py"],
    )


class _Sides:
    def __init__(self, ours: Bench, plain: PodmanBuild, context: Path) -> None:
        self._ours = ours
        self._plain = plain
        self._context = context
        self._lines = itertools.count()
        (context / "shop.json").write_text('{"port": 8080}\n')
        self._change()

    def _change(self) -> None:
        lines = ["import http.server", "import json", f"VERSION = {next(self._lines)}"]
        (self._context / "shop.py").write_text("\n".join(lines) + "\n")

    def from_nothing(self, tag: str | None) -> Callable[[], float]:
        """Ours, without any layer but the base."""

        def take() -> float:
            forget()
            self._ours.clear()
            return seconds(lambda: self._ours.build(application(self._context, tag)))

        return take

    def one_line(self, tag: str | None) -> Callable[[], float]:
        """Ours, with one changed line."""

        def take() -> float:
            self._ours.build(application(self._context, tag))
            self._change()
            before = _stored()
            taken = seconds(lambda: self._ours.build(application(self._context, tag)))
            # the name has gone to the new one
            if tag is not None:
                remove = ["podman", "image", "rm", "--ignore", *before]
                subprocess.run(remove, check=True, capture_output=True)
            return taken

        return take

    def podman_from_nothing(self) -> float:
        """Podman's, without any layer but the base."""
        return self._plain.build(_CONTAINERFILE, "--no-cache", *self._plain.apt())

    def podman_one_line(self) -> float:
        """Podman's, with one changed line."""
        self._plain.build(_CONTAINERFILE, *self._plain.apt())
        self._change()
        return self._plain.build(_CONTAINERFILE, *self._plain.apt())


def _stored() -> list[str]:
    """Identity of the image in podman's store, if it is there."""
    command = ["podman", "image", "ls", "--quiet", "--no-trunc", "--filter", f"reference={_TAG}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def forget() -> None:
    """Remove the image from podman's store."""
    command = ["podman", "image", "rm", "--ignore", _TAG]
    subprocess.run(command, check=True, capture_output=True)


def take(rounds: int) -> Sequence[Figure]:
    """Take the figures."""
    with (
        bench() as ours,
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
        podman_build(Path(name) / "context") as plain,
    ):
        sides = _Sides(ours, plain, plain.folder)
        try:
            nothing = in_turns(
                rounds,
                sides.from_nothing(None),
                sides.from_nothing(_TAG),
                sides.podman_from_nothing,
            )
            line = in_turns(
                rounds, sides.one_line(None), sides.one_line(_TAG), sides.podman_one_line
            )
        finally:
            forget()
    return [
        Figure(
            what=f"an application image, {what}{tagged}",
            unit="s",
            ours=taken[number],
            other=taken[2],
            versus="podman build",
            at_most_times=1.0,
        )
        for what, taken in (("from nothing", nothing), ("one changed line", line))
        for number, tagged in enumerate(("", ", and in podman's store"))
    ]


if __name__ == "__main__":
    main(take)
