"""What a layout was built from, to the version: ``carthage.lock``, a text for people and diffs."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_carthage.access.inputs import hash_of, near, program_of
from pytest_carthage.errors import LockError
from pytest_carthage.images.store import write_atomically

if TYPE_CHECKING:
    from pytest_carthage.images.policy import Policy
    from pytest_carthage.images.store import Built, Layer, LayerMeta
    from pytest_carthage.model.image import Image
    from pytest_carthage.model.layout import Layout
    from pytest_carthage.planning.plan import Plan
    from pytest_carthage.portal import Portal

    #: is told who (an image) does what, in a few words
    Note = Callable[[str, str], None]

__all__ = [
    "NAME",
    "VERSION",
    "Ansible",
    "Lock",
    "LockedImage",
    "LockedLayer",
    "advice",
    "ansible_here",
    "find",
    "find_for_image",
    "images_of",
    "listed",
    "located",
    "lock_layout",
    "made_of",
    "packages_digest",
]

#: what the file is called, beside that of the layout
NAME = "carthage.lock"
#: of the file's format
VERSION = 1

_MOST = 20
_STATUS = "var/lib/dpkg/status"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedLayer:
    """One layer of an image."""

    #: in the store
    key: str
    title: str
    #: key of the step as it is declared; empty: the base
    step: str
    #: digest of the names and versions of the packages that are there with it
    packages: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedImage:
    """What one image was."""

    #: key of its declaration
    declared: str
    #: what it begins with, for people
    base: str
    #: what that was made of; of a Debian, the digest of its packages
    digest: str
    #: the base first
    layers: tuple[LockedLayer, ...]
    #: name to version of all packages
    packages: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ansible:
    """The Ansible that images or stages use."""

    version: str
    #: name to version
    collections: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock of one layout."""

    #: where it is, or is to be
    path: Path
    layout: str
    #: by the name that the layout knows them by
    images: Mapping[str, LockedImage]
    #: path to hash of what tasks have read of the host
    files: Mapping[str, str]
    #: None: neither an image nor a stage uses it
    ansible: Ansible | None = None

    # on disk

    @classmethod
    def load(cls, path: Path) -> Lock:
        """Read a lock.

        :raises LockError: it is missing, damaged, or of another version.
        """
        again = "try: pytest-carthage lock LAYOUT, which writes it"
        try:
            told = json.loads(path.read_text())
        except FileNotFoundError:
            raise LockError(f"lock {path}: there is none; {again}") from None
        except OSError as error:
            raise LockError(f"lock {path}: {error.strerror}") from error
        except ValueError as error:
            raise LockError(f"lock {path}: it is damaged ({error}); {again} anew") from error
        version = told.get("version") if isinstance(told, dict) else None
        if version != VERSION:
            seen = "it is no lock" if version is None else f"its version is {version!r}"
            raise LockError(f"lock {path}: {seen}, and not {VERSION}; {again} anew")
        try:
            return _read(path, told)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            raise LockError(f"lock {path}: it is damaged ({what}); {again} anew") from error

    @property
    def text(self) -> str:
        """What is in the file: JSON, the same for the same."""
        told = {
            "version": VERSION,
            "layout": self.layout,
            "images": {name: _told(self.images[name]) for name in sorted(self.images)},
            "files": dict(sorted(self.files.items())),
            "ansible": None,
        }
        if self.ansible is not None:
            collections = dict(sorted(self.ansible.collections.items()))
            told["ansible"] = {"version": self.ansible.version, "collections": collections}
        return json.dumps(told, indent=2, ensure_ascii=False) + "\n"

    def save(self) -> None:
        """Write it; others see it whole or not at all.

        :raises LockError: it cannot be written.
        """
        try:
            write_atomically(self.path, self.text)
        except OSError as error:
            raise LockError(f"lock {self.path}: it cannot be written: {error.strerror}") from error

    # comparing: each gives what differs, one line each

    def of(self, image: Image) -> LockedImage | None:
        """What was locked of an image that is declared like this one."""
        key = image.key
        return next((one for one in self.images.values() if one.declared == key), None)

    def declarations(self, layout: str, images: Mapping[str, Image]) -> Iterator[str]:
        """What is declared otherwise than when it was locked."""
        for name in sorted(set(self.images) - set(images)):
            yield f"image {name!r}: locked, now the layout {layout!r} has none of that name"
        for name, image in sorted(images.items()):
            known = self.images.get(name)
            if known is None:
                yield f"image {name!r}: not locked, now layout {layout!r} has it"
            elif known.declared != image.key:
                yield from _steps_that_differ(name, image, known)

    def changed_files(self) -> Iterator[str]:
        """Files that are not what they were when it was locked."""
        for name, locked in self.files.items():
            now = hash_of(located(name, self.path.parent))
            if now != locked:
                seen = now[:12] if now else "not there"
                yield f"file {name}: locked {locked[:12]}, now {seen}"

    def changed_ansible(self, now: Ansible | None) -> Iterator[str]:
        """Versions of Ansible's that differ; None: there is no Ansible here."""
        locked = self.ansible
        if locked is None:
            return
        version = now.version if now is not None else ""
        if version != locked.version:
            yield f"ansible-core: locked {locked.version}, now {version or 'none'}"
        there = now.collections if now is not None else {}
        for name, was in locked.collections.items():
            if there.get(name) != was:
                yield f"Ansible collection {name}: locked {was}, now {there.get(name, 'none')}"
        for name in set(there) - set(locked.collections):
            yield f"Ansible collection {name}: not locked, now {there[name]}"

    def refuse_image(self, image: Image) -> None:
        """Refuse an image that is not locked.

        :raises LockError: it is not.
        """
        if self.of(image) is None:
            having = ", ".join(sorted(self.images)) or "none"
            raise LockError(
                f"image {image.name!r} ({image.place}): the lock {self.path} of layout "
                f"{self.layout!r} has no image that is declared like it; it has: {having}\n"
                "try: make it an attribute of the layout, and `pytest-carthage lock` again"
            )

    def check_layer(
        self,
        image: Image,
        number: int,
        meta: LayerMeta,
        tree: Path,
        packages: Mapping[str, str],
        *,
        is_new: bool,
    ) -> None:
        """Refuse a layer that is not what was locked.

        :param number: of the layer, 0 for the base.
        :param packages: all that are there with it.
        :param is_new: it was made just now, and is not kept.
        :raises LockError: with what differs.
        """
        locked = self.of(image)
        if locked is None or number >= len(locked.layers):
            self.refuse_image(image)
            return
        found = list(layer_differences(locked, number, meta, tree, packages))
        if found:
            what = "was built, and is not kept" if is_new else "is in the store"
            raise LockError(
                f"image {image.name!r}: its layer {meta.title!r} {what}, and differs from the lock "
                f"{self.path}:\n{listed(found)}\n{advice(found, rm=None if is_new else image.name)}"
            )


def layer_differences(
    locked: LockedImage,
    number: int,
    meta: LayerMeta,
    tree: Path,
    packages: Mapping[str, str],
) -> Iterator[str]:
    """What of a layer is not as it was locked, one line each."""
    layer = locked.layers[number]
    if versions_digest(packages) != layer.packages:
        told = list(package_differences(locked.packages, packages, has_all=False))
        yield from told or ["its packages are others than those that were locked"]
    elif number == 0 and (now := base_digest(meta, tree)) != locked.digest:
        yield f"base: locked {_short(locked.digest)}, now {_short(now)}"
    elif meta.key != layer.key:
        yield f"layer {meta.title!r}: locked {layer.key[:12]}, now {meta.key[:12]}, of other files"


def package_differences(
    locked: Mapping[str, str], now: Mapping[str, str], *, has_all: bool
) -> Iterator[str]:
    """Packages that have another version than was locked.

    :param has_all: these are all packages that there will be; what is missing differs, too.
    """
    for name, version in now.items():
        was = locked.get(name)
        if was is None:
            yield f"package {name}: not locked, now {version}"
        elif was != version:
            yield f"package {name}: locked {was}, now {version}"
    if has_all:
        for name in set(locked) - set(now):
            yield f"package {name}: locked {locked[name]}, now none"


def listed(differences: Iterable[str]) -> str:
    """Differences for a message: sorted, not too many."""
    every = sorted(set(differences))
    lines = [f"  {one}" for one in every[:_MOST]]
    if len(every) > _MOST:
        lines.append(f"  and {len(every) - _MOST} more")
    return "\n".join(lines)


def advice(differences: Iterable[str], *, rm: str | None = None) -> str:
    """What to do where something differs from a lock.

    :param rm: name of an image that is in the store, and not as it was locked.
    """
    remedies = ["`pytest-carthage lock` again, to take what is there now"]
    if rm is not None:
        remedies.insert(0, f"`pytest-carthage images rm {rm}` to have it built anew")
    if any("package " in one for one in differences):
        remedies.append(
            'Image.debian(..., mirror="http://snapshot.debian.org/archive/debian/DATE"), which has '
            "the versions of a day"
        )
    return f"try: {', or '.join(remedies)}"


# finding


def find(
    layout: type[Layout], chosen: Sequence[str], *, folder: Path, places: Iterable[Path]
) -> Lock:
    """The lock of a layout.

    :param chosen: files that a person named; none: it is searched.
    :param folder: where relative ones begin.
    :param places: folders to look in, the nearest first.
    :raises LockError: there is none, it is damaged, or of another layout.
    """
    who = f"layout {layout.__name__!r}"
    read = _read_chosen(who, chosen, folder, places)
    for lock in read:
        if lock.layout == layout.__name__:
            return lock
    having = ", ".join(f"{lock.path} of {lock.layout!r}" for lock in read)
    raise LockError(
        f"{who}: no lock of it is given, but: {having}; "
        f"try: pytest-carthage lock for {layout.__name__!r} with -o FILE of its own"
    )


def find_for_image(
    image: Image, chosen: Sequence[str], *, folder: Path, places: Iterable[Path]
) -> Lock:
    """The lock that has an image; parameters as of :func:`find`.

    :raises LockError: none has it.
    """
    read = _read_chosen(f"image {image.name!r}", chosen, folder, places)
    for lock in read:
        if lock.of(image) is not None:
            return lock
    read[0].refuse_image(image)
    return read[0]


def _read_chosen(
    who: str, chosen: Sequence[str], folder: Path, places: Iterable[Path]
) -> list[Lock]:
    """The locks that are in question, at least one."""
    if chosen:
        return [Lock.load(folder / name) for name in chosen]
    looked = list(dict.fromkeys(places))
    there = [place / NAME for place in looked if (place / NAME).is_file()]
    if there:
        return [Lock.load(there[0])]
    where = ", ".join(map(str, looked[:1])) + (" or above" if len(looked) > 1 else "")
    raise LockError(
        f"{who}: there is no {NAME} in {where}; try: pytest-carthage lock PATH:Class, "
        "or say where it is"
    )


# making


def images_of(layout: type[Layout], plan: Plan) -> dict[str, Image]:
    """All images that a layout declares or that its machines start from, by name.

    Those that it declares have the name of their attribute; one that a machine's roles add
    packages to is called ``NAME for MACHINE, ...``.
    """
    declared = layout.images()
    found = dict(declared)
    by_key = {image.key: name for name, image in declared.items()}
    users: dict[str, list[str]] = {}
    for machine in plan.machines.values():
        if machine.image is not None and machine.image.key in plan.images:
            users.setdefault(machine.image.key, []).append(machine.name)
    for key, image in plan.images.items():
        if key not in by_key:
            own = _name_of_origin(layout, users.get(key, ()), declared) or image.name
            found[f"{own} for {', '.join(users.get(key, ()))}"] = image
    return found


def _name_of_origin(
    layout: type[Layout], machines: Sequence[str], declared: Mapping[str, Image]
) -> str | None:
    """The attribute that the image of machines was made from."""
    every = layout.machines()
    for machine in machines:
        origin = every[machine].image if machine in every else None
        for name, image in declared.items():
            if origin is not None and image == origin:
                return name
    return None


def ansible_here(folder: Path) -> Ansible | None:
    """What there is of Ansible, as seen from a folder; None: there is none."""
    from pytest_carthage.access.ansible_surroundings import collections, program_version

    version = program_version()
    return Ansible(version=version, collections=collections(folder)) if version else None


def made_of(layout: type[Layout], built: Mapping[str, Built], *, path: Path) -> Lock:
    """Make the lock of images that are built.

    :param path: where it is to be.
    """
    files: dict[str, str] = {}
    uses_ansible = any(_uses_ansible(one) for one in stages_of(layout))
    for one in built.values():
        for file, seen in _files_read(one):
            files[_named(file, path.parent)] = seen
        uses_ansible = uses_ansible or any(
            program_of(name) for layer in one.layers for name in layer.meta.inputs
        )
    return Lock(
        path=path,
        layout=layout.__name__,
        images={name: locked_image(one) for name, one in built.items()},
        files=files,
        ansible=ansible_here(path.parent) if uses_ansible else None,
    )


async def lock_layout(
    layout: type[Layout], plan: Plan, path: Path, *, portal: Portal, note: Note, policy: Policy
) -> tuple[Lock, dict[str, Built]]:
    """Build what is missing of a layout's images; returns its lock, which is not saved, and them.

    :param path: where the lock is to be.
    :raises BuildError: an image could not be built.
    """
    import asyncio

    from pytest_carthage.images.builder import ensure

    built = {}
    for name, image in images_of(layout, plan).items():
        built[name] = await ensure(image, portal=portal, note=note, policy=policy)
    return await asyncio.to_thread(made_of, layout, built, path=path), built


def locked_image(built: Built) -> LockedImage:
    """What is to be remembered of an image."""
    steps = ["", *(step.key for step in built.image.steps)]
    layers = []
    for step, layer, packages in zip(steps, built.layers, states(built.layers), strict=True):
        layers.append(
            LockedLayer(
                key=layer.key,
                title=layer.meta.title,
                step=step,
                packages=versions_digest(packages),
            )
        )
    base = built.layers[0]
    return LockedImage(
        declared=built.image.key,
        base=base.meta.command,
        digest=base_digest(base.meta, base.tree),
        layers=tuple(layers),
        packages=built.packages,
    )


def states(layers: Sequence[Layer]) -> Iterator[Mapping[str, str]]:
    """The packages that are there with each layer, the base first."""
    there: Mapping[str, str] = {}
    for layer in layers:
        if layer.meta.packages is not None:
            there = layer.meta.packages
        yield there


def _files_read(built: Built) -> Iterator[tuple[Path, str]]:
    """Files of the host that an image's tasks have read, with what they were."""
    for step, layer in zip(built.image.steps, built.layers[1:], strict=True):
        for name, seen in layer.meta.inputs.items():
            if seen and program_of(name) is None:  # without: it was looked for, and not there
                yield step.anchor / name, seen


def files_read(built: Built) -> list[Path]:
    """Absolute paths of files and folders of the host that an image was made from."""
    image = built.image
    paths = [path for path, _ in _files_read(built)]
    paths += [path for path in (image.path, image.context) if path is not None]
    return [_absolute(path) for path in paths]


# digests


def versions_digest(packages: Mapping[str, str]) -> str:
    """Digest of names and versions; empty: there are none."""
    if not packages:
        return ""
    text = "".join(f"{name}={packages[name]}\n" for name in sorted(packages))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def packages_digest(status: str) -> str:
    """Digest of the packages of dpkg's ``status``, by name, version and architecture."""
    rows = []
    for paragraph in status.split("\n\n"):
        told = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if line.startswith(("Package: ", "Version: ", "Architecture: ", "Status: "))
        )
        if told.get("Status", "").endswith(" installed"):
            rows.append(f"{told['Package']}={told.get('Version')}:{told.get('Architecture')}\n")
    return f"sha256:{hashlib.sha256(''.join(sorted(rows)).encode()).hexdigest()}"


def base_digest(meta: LayerMeta, tree: Path) -> str:
    """What a base was made of: its packages, or what is known of where it came from."""
    if meta.digest:
        return meta.digest
    try:
        return packages_digest((tree / _STATUS).read_text(errors="surrogateescape"))
    except OSError:
        return ""


def _short(digest: str) -> str:
    kind, colon, text = digest.rpartition(":")
    return f"{kind}{colon}{text[:12]}" if text else "nothing"


# files by name


def _named(path: Path, folder: Path) -> str:
    """A file's name in a lock: from its folder where it is near, or from an installed package."""
    full = _absolute(path)
    name = near(full, folder)
    if not Path(name).is_absolute():
        return name
    package = package_of(full)
    if package is not None and _folder_of(package.name) == package:
        return f"{package.name}:{full.relative_to(package)}"
    return name


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  links are not followed


def located(name: str, folder: Path) -> Path:
    """Where a file of a lock is now."""
    package, colon, rest = name.partition(":")
    if colon and package.isidentifier():
        found = _folder_of(package)
        if found is not None:
            return found / rest
    return folder / name


def package_of(path: Path) -> Path | None:
    """Folder of the outermost Python package that a file is in."""
    inside = next((one for one in path.parents if (one / "__init__.py").exists()), None)
    while inside is not None and (inside.parent / "__init__.py").exists():
        inside = inside.parent
    return inside


def _folder_of(package: str) -> Path | None:
    """Folder of a package that can be imported."""
    from importlib.util import find_spec

    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None


# stages


def stages_of(layout: type[Layout]) -> list[Any]:
    """Stages that stand beside a layout, or beside one that it is derived from."""
    from pytest_carthage.model.stage import ATTRIBUTE

    modules = (sys.modules.get(cls.__module__) for cls in layout.__mro__)
    found = {}
    for module in modules:
        for value in list(vars(module).values()) if module is not None else ():
            one = getattr(value, ATTRIBUTE, None)
            if one is not None and hasattr(one, "function"):
                found[id(one)] = one
    return list(found.values())


def _uses_ansible(stage: Any) -> bool:
    return "ansible" in stage.function.__code__.co_names


# JSON


def _told(image: LockedImage) -> dict[str, Any]:
    return {
        "declared": image.declared,
        "base": {"made_of": image.base, "digest": image.digest},
        "layers": [asdict(layer) for layer in image.layers],
        "packages": dict(sorted(image.packages.items())),
    }


def _read(path: Path, told: Mapping[str, Any]) -> Lock:
    images = {
        _text(name): LockedImage(
            declared=_text(one["declared"]),
            base=_text(one["base"]["made_of"]),
            digest=_text(one["base"]["digest"]),
            layers=tuple(LockedLayer(**_texts(layer)) for layer in one["layers"]),
            packages=_texts(one["packages"]),
        )
        for name, one in told["images"].items()
    }
    known = told["ansible"]
    ansible = None
    if known is not None:
        version, collections = _text(known["version"]), _texts(known["collections"])
        ansible = Ansible(version=version, collections=collections)
    return Lock(
        path=path,
        layout=_text(told["layout"]),
        images=images,
        files=_texts(told["files"]),
        ansible=ansible,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(value: Mapping[str, object]) -> dict[str, str]:
    return {_text(name): _text(one) for name, one in value.items()}


def _steps_that_differ(name: str, image: Image, known: LockedImage) -> Iterator[str]:
    """Which of an image's declarations are others than those that were locked."""
    steps = [(step.key, step.title) for step in image.steps]
    locked = [(layer.step, layer.title) for layer in known.layers[1:]]
    was, now = dict(locked), dict(steps)
    if steps == locked:
        yield f"image {name!r}: its base, configuration or tag is declared otherwise"
        return
    titles = {title for _, title in locked}
    for key, title in steps:
        if key not in was:
            how = "is declared otherwise" if title in titles else "is not locked"
            yield f"image {name!r}: task {title!r} {how}"
    left = {title for _, title in steps}
    for key, title in locked:
        if key not in now and title not in left:
            yield f"image {name!r}: task {title!r} is locked, and there is none now"
    if set(was) == set(now):
        yield f"image {name!r}: its tasks have another order"
