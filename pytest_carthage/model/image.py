"""Images: the root file systems that machines start from, and the steps that make them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_carthage.model.file import File
from pytest_carthage.model.keys.key import LATER, digest
from pytest_carthage.model.mistakes.declaring import declared, declaring
from pytest_carthage.model.mistakes.member import Member
from pytest_carthage.model.mistakes.mistake import Mistake
from pytest_carthage.model.mistakes.place import Place
from pytest_carthage.model.mistakes.value import shown
from pytest_carthage.model.names import is_package
from pytest_carthage.model.strings import variables_mistake, words_mistake
from pytest_carthage.model.task import Step, Task, task_of

if TYPE_CHECKING:
    from pytest_carthage.model.role import Role

__all__ = ["FORMAT", "UNNEEDED", "Healthcheck", "Image", "ImageConfig"]

#: attribute of an image's fixture that holds its declaration
ATTRIBUTE = "__carthage_image__"
#: part of every key: raised when images with equal declarations would be built differently
FORMAT = 2
# these say more beside their files than they were asked for once
# a Debian has its security updates among its sources, and lists that are as old as can be
_FORMATS = {"oci": 3, "containerfile": 3, "debian": 3}

#: folders of ``/usr/share`` that are left out of a Debian where nobody asks for them
UNNEEDED = ("doc", "info", "lintian", "locale", "man")

_SUITE = re.compile(r"[a-z][a-z0-9.-]*", re.ASCII)
_VARIANTS = ("minbase", "buildd", "important", "standard", "apt", "required", "-")
_REFERENCE = re.compile(r"[A-Za-z0-9]\S*", re.ASCII)
# what the distribution specification calls a name and a tag, with the host that it may begin with
_COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_TAG = re.compile(
    rf"([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?{_COMPONENT}(/{_COMPONENT})*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?",
    re.ASCII,
)
_LOCALE = re.compile(r"[a-z]{2,3}(_[A-Z]{2})?(@[a-z]+)?\.[A-Za-z0-9-]+(@[a-z]+)?", re.ASCII)
_ADDRESS = re.compile(r"https?://", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MIRROR = re.compile(r"(https?|ftp)://\S+|(file|copy):/\S+|/\S*", re.ASCII)  # sources.list(5)

_LONGEST_LINE = 4096  # PATH_MAX

Kind = Literal["debian", "oci", "rootfs", "containerfile", "disk"]


@declared("healthcheck")
@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """A command that tells whether what an image is for works."""

    command: tuple[str, ...]
    interval_s: float = 30.0
    timeout_s: float = 30.0
    retries: int = 3
    #: failures do not count so long after the start
    start_period_s: float = field(default=0.0, metadata={LATER: True})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image says beside its files, see the OCI image specification."""

    #: what its main process is; None: nothing is said
    command: tuple[str, ...] | None = None
    #: variables, as pairs
    env: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    #: who runs the command; empty: root
    user: str = ""
    healthcheck: Healthcheck | None = None
    workdir: str = ""
    #: what asks the main process to end, as in ``"SIGQUIT"``; empty: SIGTERM
    stop_signal: str = field(default="", metadata={LATER: True})
    #: folders whose contents are data
    volumes: tuple[str, ...] = field(default=(), metadata={LATER: True})

    def over(self, below: ImageConfig) -> ImageConfig:
        """This one where it says something, the other one elsewhere."""
        return ImageConfig(
            command=below.command if self.command is None else self.command,
            env=tuple({**dict(below.env), **dict(self.env)}.items()),
            labels=tuple({**dict(below.labels), **dict(self.labels)}.items()),
            user=self.user or below.user,
            healthcheck=self.healthcheck or below.healthcheck,
            workdir=self.workdir or below.workdir,
            stop_signal=self.stop_signal or below.stop_signal,
            volumes=tuple(dict.fromkeys([*below.volumes, *self.volumes])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Member):
    """A root file system, by what is in it. Equal declarations are built once."""

    kind: Kind
    #: code name of the distribution's release; empty for other kinds than debian
    suite: str = ""
    #: how much of it, see mmdebstrap(1)
    variant: str = "minbase"
    #: sorted names of the packages wanted beyond the minimum
    packages: tuple[str, ...] = ()
    #: address of the archive; empty: as the host's own apt reaches it
    mirror: str = ""
    #: keys that sign the archive; None: those that the host trusts
    keyring: Path | None = None
    #: whether documentation and manual pages are there
    docs: bool = False
    #: names of the locales that are there, beside those of C
    locales: tuple[str, ...] = ()
    #: where an existing image is found; empty for other kinds than oci
    reference: str = ""
    #: of kind rootfs a tar or a folder, of containerfile and disk the file
    path: Path | None = None
    #: folder that a Containerfile copies from
    context: Path | None = None
    #: folder of the file in which the path is written: both may be moved together
    anchor: Path | None = field(default=None, compare=False, repr=False)
    #: whether the disk is one that cloud-init configures when it is first booted
    is_cloud: bool = False
    #: of the disk's file, in hexadecimal digits; empty: it is not compared
    sha256: str = ""
    #: what is done to it, in this order
    contents: tuple[Role | Task | File | tuple[str, ...], ...] = ()
    config: ImageConfig = field(default_factory=ImageConfig)
    #: name in the host's image store that it gets when it is built
    tag: str | None = None
    #: what people call it; not part of its identity
    name: str = field(default="", compare=False)
    place: Place = field(default_factory=Place.of_author, compare=False, repr=False)

    @property
    def _called(self) -> str:
        return f"image {self.name!r}"

    # bases

    @classmethod
    @declaring("image", own=1)
    def debian(
        cls,
        suite: str,
        *,
        variant: str = "minbase",
        packages: Sequence[str] = (),
        mirror: str | None = None,
        keyring: str | Path | None = None,
        docs: bool = False,
        locales: Sequence[str] = (),
        name: str | None = None,
    ) -> Image:
        """A Debian of this suite (``"bookworm"``) with these packages.

        :param variant: how much of it, see mmdebstrap(1).
        :param mirror: address of an archive, as a snapshot's; by default the one that the
            host's own apt uses.
        :param keyring: file with the keys that sign that archive, as one of a derivative; a
            relative path is of the folder of the file in which this is written.
        :param docs: documentation and manual pages are there, also those of packages that are
            installed later; by default they are left out, to save space.
        :param locales: languages and what belongs to them, as in ``["de_DE.UTF-8"]``; by default
            there is none but C, and packages come without their translations.
        """
        return cls(
            kind="debian",
            suite=suite,
            variant=variant,
            packages=_sorted(packages),
            mirror=mirror or "",
            keyring=None if keyring is None else _beside(keyring, "keyring"),
            anchor=None if keyring is None else _beside("."),
            docs=docs,
            locales=_sorted(locales),
            name=_name(name) or f"debian-{suite}",
        )

    @classmethod
    @declaring("image", own=1)
    def oci(cls, reference: str, *, name: str | None = None) -> Image:
        """An image that exists already, as in ``"localhost/name:tag"``.

        With a transport of skopeo(1), as in ``"docker://"`` or ``"oci-archive:"``, it is taken
        from there.
        """
        return cls(kind="oci", reference=reference, name=_name(name) or str(reference))

    @classmethod
    @declaring("image", own=1)
    def rootfs(cls, path: str | Path, *, name: str | None = None) -> Image:
        """The files of a root file system: a tar, or a folder.

        A relative path is of the folder of the file in which this is written.
        """
        full = _beside(path)
        return cls(kind="rootfs", path=full, anchor=_beside("."), name=_name(name) or _stem(full))

    @classmethod
    @declaring("image", own=1)
    def containerfile(
        cls, path: str | Path, *, context: str | Path | None = None, name: str | None = None
    ) -> Image:
        """What ``podman build`` makes of a Containerfile.

        Relative paths are of the folder of the file in which this is written.

        :param context: folder that it copies from; by default the one that it is in.
        """
        full = _beside(path)
        folder = full.parent if context is None else _beside(context, "context")
        return cls(
            kind="containerfile",
            path=full,
            context=folder,
            anchor=_beside("."),
            name=_name(name) or _stem(full.parent),
        )

    @classmethod
    @declaring("image", own=1)
    def disk(cls, path: str | Path, *, name: str | None = None) -> Image:
        """A disk image, as qcow2 or raw: a container has its root file system.

        A virtual machine boots the disk itself, by its own boot loader, above which it writes. A
        relative path is of the folder of the file in which this is written.
        """
        full = _beside(path)
        return cls(kind="disk", path=full, anchor=_beside("."), name=_name(name) or _stem(full))

    @classmethod
    @declaring("image", own=1)
    def cloud(
        cls, path: str | Path, *, sha256: str | None = None, name: str | None = None
    ) -> Image:
        """A distribution's cloud image: a disk that cloud-init configures when it is first booted.

        A virtual machine boots it, and is told its name, its network and our agent by a second
        disk (data source NoCloud). Else it is as :meth:`disk`.

        :param path: a file, or an address, from which it is fetched once and kept in the store of
            images: ``"https://..."``, with a ``sha256=``.
        :param sha256: what the file is compared with, in hexadecimal digits.
        """
        if isinstance(path, str) and _ADDRESS.match(path):
            return cls(
                kind="disk",
                reference=path,
                is_cloud=True,
                sha256=sha256 or "",
                name=_name(name) or _stem(Path(path.partition("?")[0])),
            )
        full = _beside(path)
        return cls(
            kind="disk",
            path=full,
            is_cloud=True,
            sha256=sha256 or "",
            anchor=_beside("."),
            name=_name(name) or _stem(full),
        )

    # derived images

    @declaring("image", own=1)
    def with_(
        self,
        *contents: object,
        name: str | None = None,
        tag: str | None = None,
        command: str | Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        user: str | None = None,
        healthcheck: Healthcheck | Sequence[str] | None = None,
        workdir: str | None = None,
    ) -> Image:
        """An image that has more than this one; each task is a layer.

        :param contents: roles, filesystem tasks, and :class:`File`, done in this order.
        :param name: what people call it where no layout has it as an attribute; by default this
            one's.
        :param tag: name in the host's image store that it gets when it is built.
        :param command: what its main process is: ``["/sbin/init"]`` is systemd; text is given to
            ``/bin/sh -c``.
        :param env: variables of whatever runs in it.
        :param user: who runs the command.
        :param healthcheck: command that tells whether it works.
        :raises LayoutError: something is no content of an image.
        """
        place = Place.of_author()
        label = f"image {_name(name) or self.name!r}"
        taken = tuple(_content(one, label, place) for one in contents)
        config = ImageConfig(
            command=_words("command", command, label, place),
            env=_pairs(env, "env", label, place),
            labels=_pairs(labels, "labels", label, place),
            user=_line("user", user, label, place),
            healthcheck=_healthcheck(healthcheck, label, place),
            workdir=_line("workdir", workdir, label, place),
        )
        return replace(
            self,
            contents=(*self.contents, *taken),
            config=config.over(self.config),
            tag=tag,
            name=name or self.name,
            place=place,
        )

    @declaring("image", own=1)
    def with_packages(self, *names: str) -> Image:
        """The same image with more Debian packages, in a layer of their own.

        Where any are missing it is another image, which has no :attr:`tag`.
        """
        missing = _sorted({name for name in names if name not in self.all_packages})
        if not missing:
            return self
        return replace(self, contents=(*self.contents, missing), tag=None)

    @declaring("image", own=1)
    def fixture(self, *, name: str | None = None) -> Any:
        """A session-scoped fixture that builds this image and gives its handle.

        :param name: name of the fixture, by default the variable's to which it is assigned.
        """
        import pytest

        def image(request: pytest.FixtureRequest) -> Iterator[Any]:
            __tracebackhide__ = True
            from pytest_carthage.door import door_of

            named = self.called(str(request.fixturename))
            yield from door_of(request, f"image {named.name!r}").image_fixture(named, request)

        image.__doc__ = f"Image {self.name!r}, built."
        fixture: Any = pytest.fixture(scope="session", name=name)(image)
        setattr(fixture, ATTRIBUTE, self)
        return fixture

    def called(self, name: str) -> Image:
        """The same, by the name of the variable that holds it, where nobody has named it."""
        path = self.path.parent if self.kind == "containerfile" and self.path else self.path
        own = f"debian-{self.suite}" if self.kind == "debian" else self.reference
        return replace(self, name=name) if self.name == (_stem(path) if path else own) else self

    # looking

    @property
    def base(self) -> Image:
        """What it begins with: the same without contents."""
        plain = {"contents": (), "config": ImageConfig(), "tag": None}
        return replace(self, **plain)  # type: ignore[arg-type]

    @property
    def origin(self) -> str:
        """What it begins with, in words: ``"debian bookworm (minbase)"``."""
        if self.kind == "debian":
            more = f" with {', '.join(self.packages)}" if self.packages else ""
            return f"debian {self.suite} ({self.variant}){more}"
        return f"{self.kind} {self.reference or (self.path.name if self.path else '')}"

    @property
    def archive(self) -> str:
        """Its archive, as a line of sources.list(5) has it; empty: the host's own."""
        return self.mirror if self.keyring is None else f"[signed-by={self.keyring}] {self.mirror}"

    @property
    def left_out(self) -> tuple[str, ...]:
        """Folders of ``/usr/share`` that it leaves out, but for the locales that are asked for."""
        if self.kind != "debian":
            return ()
        return tuple(kind for kind in UNNEEDED if kind == "locale" or not self.docs)

    @property
    def base_packages(self) -> tuple[str, ...]:
        """Names of the packages that its base is asked to have."""
        return (*self.packages, "locales") if self.locales else self.packages

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that it has, those that others consist of before them."""
        return tuple(
            part
            for one in self.contents
            if _is_role(one)
            for part in one.parts  # type: ignore[union-attr]
        )

    @property
    def all_packages(self) -> frozenset[str]:
        """Names of the packages that are asked for, by its roles, too."""
        packages = set(self.packages)
        for step in self.steps:
            packages.update(step.packages)
        return frozenset(packages)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is done to the base, one layer each."""
        steps: list[Step] = []
        for content in self.contents:
            if isinstance(content, tuple):
                steps.append(Step.of_packages(content, self.place))
            elif isinstance(content, File):
                steps.append(Step.of_file(content))
            elif isinstance(content, Task):
                steps.append(Step.of_task(content, None))
            else:
                origin = Path(self.place.file).absolute().parent
                for part in content.parts:
                    steps += [replace(step, origin=origin) for step in part.steps]
        return tuple(steps)

    @property
    def key(self) -> str:
        """Key of what is declared: equal for images that are declared alike (hexadecimal)."""
        return digest([self.base_key, [step.key for step in self.steps], self.config, self.tag])

    @property
    def base_key(self) -> str:
        """Key of the declaration of what it begins with (hexadecimal)."""
        form = _FORMATS.get(self.kind, FORMAT)
        parts: list[Any] = [form, self.kind, self.suite, self.variant, self.packages]
        parts += [self.mirror, self.reference, self.path or "", self.context or ""]
        if self.kind == "debian":
            parts += [self.docs, self.locales, self.keyring or ""]
        if self.is_cloud:
            parts += ["cloud", self.sha256]
        return digest(parts, self.anchor)

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """What is wrong with the declaration."""
        mistakes: list[Mistake] = []

        def mistake(what: str, remedy: str) -> None:
            mistakes.append(Mistake(what=what, remedy=remedy, place=self.place))

        if self.kind == "debian":
            if not _is(_SUITE, self.suite):
                mistake(f"{self.suite!r} is not the name of a suite", 'Image.debian("bookworm")')
            if self.variant not in _VARIANTS:
                mistake(
                    f"{self.variant!r} is not a variant of mmdebstrap",
                    f"one of {', '.join(_VARIANTS[:-1])}",
                )
            if self.mirror and not _is(_MIRROR, self.mirror):
                mistake(
                    f"{self.mirror!r} is not the address of an archive",
                    'mirror="http://snapshot.debian.org/archive/debian/20251101T000000Z"',
                )
            if self.keyring is not None and not self.mirror:
                mistake(
                    "keyring= is of no use without mirror=", "mirror=, the archive that it signs"
                )
            docs: object = self.docs
            if not isinstance(docs, bool):
                mistake(f"docs={shown(docs)} is neither True nor False", "docs=True")
            for locale in self.locales:
                if not _is(_LOCALE, locale):
                    mistake(f"{locale!r} is not the name of a locale", 'locales=["de_DE.UTF-8"]')
        elif self.kind == "oci" and not _is(_REFERENCE, self.reference):
            mistake(
                f"{self.reference!r} is not an image reference",
                'Image.oci("localhost/name:tag")',
            )
        digits: object = self.sha256
        if self.kind == "disk" and self.path is None and not digits:
            mistake(
                f"what {self.reference} leads to may change, and there is no sha256=",
                "sha256=, as its publisher tells it",
            )
        if digits and not _is(_SHA256, digits):
            mistake(
                f"sha256={shown(digits)} is not 64 hexadecimal digits",
                "what sha256sum prints of it",
            )
        added = (one for step in self.contents if isinstance(step, tuple) for one in step)
        for package in (*self.packages, *added):
            if not is_package(package):
                mistake(
                    f"{package!r} is not the name of a Debian package",
                    'packages=["iproute2", "python3"]',
                )
        if self.tag is not None and not _is(_TAG, self.tag):
            mistake(f"tag {self.tag!r} is not a name for an image", 'tag="localhost/server:1"')
        for content in self.contents:
            if _is_role(content):
                mistakes += content.mistakes(self.place)  # type: ignore[union-attr]
        return tuple(mistakes)


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_role(content: object) -> bool:
    return not isinstance(content, tuple | File | Task)


def _sorted(packages: Iterable[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted({packages} if isinstance(packages, str) else set(packages)))
    except TypeError:  # no iterable of strings: left for the layout to refuse
        return (packages,)  # type: ignore[return-value]


def _refused(what: str, remedy: str, who: str = "image", place: Place | None = None) -> Exception:
    return Mistake(what=what, remedy=remedy, place=place or Place.of_author()).error(who)


def _beside(path: object, argument: str = "path") -> Path:
    """A path of the folder that the author's file is in.

    :raises LayoutError: it is no path.
    """
    if not isinstance(path, str | Path) or not str(path) or not str(path).isprintable():
        raise _refused(
            f"{argument}={shown(path)} is no path", f'{argument}="a path from the folder of it"'
        )
    return Path(Place.of_author().file).absolute().parent / path


def _name(name: object) -> str | None:
    """What people call an image.

    :raises LayoutError: nobody could read it in a line of a table.
    """
    if name is None or (isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable()):
        return name
    raise _refused(f"name={shown(name)} is no name of up to 100 characters", 'name="server"')


def _line(argument: str, text: object, who: str, place: Place) -> str:
    """Text of one line; None: empty.

    :raises LayoutError: it is none.
    """
    if text is None:
        return ""
    if not isinstance(text, str) or not text.isprintable() or len(text) > _LONGEST_LINE:
        raise _refused(
            f"{argument}={shown(text)} is no text of one line",
            f'{argument}="..."',
            who,
            place,
        )
    return text


def _stem(path: Path) -> str:
    return re.sub(r"\.(tar|qcow2|img|raw|tgz)(\.\w+)?$|\.\w+$", "", path.name) or "image"


def _content(content: object, who: str, place: Place) -> Any:
    from pytest_carthage.model.role import Role

    if isinstance(content, type) and issubclass(content, Role):
        what, remedy = f"{content.__name__} is a class", f"{content.__name__}()"
        raise Mistake(what=what, remedy=remedy, place=place).error(who)
    if isinstance(content, Role | File):
        return content
    task = task_of(content)
    if task is None:
        raise Mistake(
            what=f"{shown(content)} is no content of an image",
            remedy="a role, a function with @filesystem_task above it, or File(source, target)",
            place=place,
        ).error(who)
    if task.kind != "filesystem":
        raise Mistake(
            what=f"task {task.title!r} needs a machine that runs, and an image does not run",
            remedy="@filesystem_task, or Machine(..., roles=[...])",
            place=place,
        ).error(who)
    return task


def _pairs(
    given: Mapping[str, str] | None, argument: str, who: str, place: Place
) -> tuple[tuple[str, str], ...]:
    written: object = {} if given is None else given
    pairs: Any = (
        {_text(k): _text(v) for k, v in written.items()} if isinstance(written, dict) else None
    )
    if pairs is None or not all(isinstance(one, str) for pair in pairs.items() for one in pair):
        raise Mistake(
            what=f"{argument} {shown(given)} is no mapping of names to text",
            remedy=f'{argument}={{"NAME": "value"}}',
            place=place,
        ).error(who)
    if argument == "env" and (wrong := variables_mistake(pairs)) is not None:
        raise Mistake(what=wrong, remedy='env={"NAME": "value"}', place=place).error(who)
    return tuple(pairs.items())


def _text(value: object) -> object:
    """A number as text; anything else as it is."""
    return str(value) if isinstance(value, int | float) else value


def _words(argument: str, given: object, who: str, place: Place) -> tuple[str, ...] | None:
    """The words of a command; text is given to a shell."""
    if given is None:
        return None
    if isinstance(given, str):
        given = ("/bin/sh", "-c", given) if given.strip() else ()
    words: tuple[Any, ...] = tuple(map(_text, given)) if isinstance(given, list | tuple) else ()
    if words and (wrong := words_mistake(words)) is not None:
        raise Mistake(
            what=f"{argument}: {wrong}",
            remedy=f'{argument}=["program", "argument"]',
            place=place,
        ).error(who)
    if not words:
        raise Mistake(
            what=f"{argument} {shown(given)} has no word that could be run",
            remedy=f'{argument}=["program", "argument"], or leave it out',
            place=place,
        ).error(who)
    return words


def _healthcheck(
    given: Healthcheck | Sequence[str] | None, who: str, place: Place
) -> Healthcheck | None:
    if given is None or isinstance(given, Healthcheck):
        return given
    return Healthcheck(command=_words("healthcheck", given, who, place) or ())
