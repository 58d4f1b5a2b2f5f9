"""A lab that somebody has, in words of ours: of it a class is made, or its source text."""

from __future__ import annotations

import keyword
import os
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_carthage.errors import LayoutError
from pytest_carthage.labs.documents import Remark
from pytest_carthage.labs.expressions import (
    Call,
    Method,
    Ref,
    Written,
    imports,
    text_of,
    value_of,
)
from pytest_carthage.model.file import File
from pytest_carthage.model.image import Image
from pytest_carthage.model.mistakes.place import Place

__all__ = ["EntryPoints", "Here", "Images", "Lab", "identifier"]

#: reference of an image to what it is here; None: machines over the host's files
Images = Mapping[str, Image | str | None]
#: full name of an image in podman's store to what its commands begin with; None: it is not known
EntryPoints = Callable[[str], tuple[str, ...] | None]
#: what begins a reference with a transport of skopeo(1)
_TRANSPORT = re.compile(r"(docker|docker-archive|oci|oci-archive|dir|containers-storage):")
#: the longest line of what is written
_WIDTH = 100
#: names that are imported, or looked at, by that
_OURS = frozenset(
    {"Image", "Layout", "Machine", "Network", "File", "Healthcheck", "Limits", "Startup"}
    | {"command", "port", "locals"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    written: Call
    place: Place

    @property
    def kind(self) -> str:
        """Network, Image or Machine."""
        return self.written.name.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What a lab finds where it is taken to."""

    images: Images = field(default_factory=dict)
    #: names that members cannot have
    reserved: Collection[str] = ()
    entry_points: EntryPoints = lambda name: None
    #: folder that relative paths are of; None: the lab's own
    near: Path | None = None


@dataclass(slots=True, kw_only=True)
class Lab:
    """Members of a layout, by name, and what of the lab is not among them.

    :raises LayoutError: something in it is wrong.
    """

    #: what wrote it: containerlab, Kathará or compose
    kind: str
    file: Path
    title: str
    here: Here
    remarks: list[Remark] = field(default_factory=list)
    members: dict[str, _Member] = field(default_factory=dict)
    #: what machines are called there to the names of their members
    machines: dict[str, str] = field(default_factory=dict)
    #: reference of an image that is taken from here to where it is asked for
    references: dict[str, Place] = field(default_factory=dict)
    _images: dict[str, Ref] = field(default_factory=dict)

    @property
    def near(self) -> Path:
        """Folder that relative paths are of."""
        return self.here.near or self.file.parent

    def claim(self, machines: Iterable[str]) -> None:
        """Have machines be called as nearly as possible to what they are called there.

        Nothing else gets a name of theirs: it comes before all else is named.
        """
        for machine in machines:
            name = self.name_for(machine)
            self.machines[machine] = name

    def name_for(self, wanted: str) -> str:
        """A free name of a member that is as near as possible to what it is called there."""
        name = identifier(wanted)
        if keyword.iskeyword(name) or name in self.here.reserved or name in _OURS:
            name += "_"
        number, first = 2, name
        while name in self.members or name in self.machines.values():
            name = f"{first}_{number}"
            number += 1
        return name

    def add(self, name: str, written: Call, place: Place) -> Ref:
        """Have a member."""
        self.members[name] = _Member(written=written, place=place)
        return Ref(name)

    def image(
        self, reference: str, place: Place, files: Sequence[tuple[Path, str]] = ()
    ) -> Written | None:
        """The image of a reference, with files of the lab in it; None: the host's files serve.

        :param files: files and folders of this host, each with where it is in the image.
        :raises LayoutError: there are files, and nothing to put them into.
        """
        known = self._images.get(reference)
        if known is None:
            written = Call(function=Image.oci, name="Image.oci", args=(reference,))
            if reference in self.here.images:
                given = self.here.images[reference]
                if given is None:
                    self._refuse_files(reference, place, files)
                    return None
                stands = Image.oci(given) if isinstance(given, str) else given
                written = Call(
                    function=lambda *_: stands, name="Image.oci", args=(stands.reference or given,)
                )
            elif not _TRANSPORT.match(reference):
                self.references[reference] = place
            short = reference.rpartition("/")[2].partition(":")[0].partition("@")[0]
            name = self.name_for(short)
            if name != identifier(short):  # a machine is called so
                name = self.name_for(f"{short}_image")
            known = self._images[reference] = self.add(name, written, place)
        if not files:
            return known
        put = [
            Call(function=File, name="File", args=(os.path.relpath(source, self.near), target))
            for source, target in files
        ]
        return Method(of=known, name="with_", args=tuple(put))

    def _refuse_files(
        self, reference: str, place: Place, files: Sequence[tuple[Path, str]]
    ) -> None:
        if files:
            raise LayoutError(
                f"image {reference!r}: images= has None for it, and {len(files)} files of the lab "
                f"are to be in it; declared at {place}; try: an image of yours in its place"
            )

    def entry_point(self, reference: str) -> tuple[str, ...] | None:
        """What the commands of a reference's image begin with; None: it is not known."""
        stands = self.here.images.get(reference, reference)
        if stands is None:
            return ()
        if isinstance(stands, Image):
            if stands.kind != "oci":
                return None if stands.kind == "containerfile" else ()
            stands = stands.reference
        known = (self.here.entry_points(name) for name in _full_names(stands))
        return next((words for words in known if words is not None), None)

    def missing(self, there: Collection[str]) -> LayoutError | None:
        """The error about images that are not here; None: all are.

        :param there: full names of those that are.
        """
        missing = {
            reference: place
            for reference, place in self.references.items()
            if not any(name in there for name in _full_names(reference))
        }
        if not missing:
            return None
        rows = "".join(f"\n  {name} (at {place})" for name, place in missing.items())
        example = next(iter(missing))
        return LayoutError(
            f"lab {self.file.name}: of its images are not in this host's store:{rows}\n"
            f"try: podman pull {example}, or images={{{example!r}: Image.debian('bookworm')}}"
        )

    @property
    def sorted_remarks(self) -> list[Remark]:
        """What is not taken, in the order of the lab's lines."""
        return sorted(self.remarks, key=lambda remark: (remark.place.file, remark.place.line))

    @property
    def class_name(self) -> str:
        """What its class is called."""
        name = "".join(word[:1].upper() + word[1:] for word in identifier(self.title).split("_"))
        return f"{name}Lab" if name in _OURS or keyword.iskeyword(name) else name

    def declared(self) -> dict[str, Any]:
        """Name to declaration, each standing where it stands in the lab.

        :raises LayoutError: a declaration is wrong.
        """
        made: dict[str, Any] = {}
        for name, member in self.members.items():
            with member.place.said():
                made[name] = value_of(member.written, made)
        return made

    def source(self) -> str:
        """The source text of a ``conftest.py`` with the same declarations."""
        names = imports(member.written for member in self.members.values()) | {"Layout"}
        roles = {"Startup"} & names
        lines = [f'"""{self.title}, as `pytest-carthage import {self.file.name}` wrote it."""', ""]
        lines += [_import("pytest_carthage", names - roles)]
        lines += [_import("pytest_carthage.roles", roles)] if roles else []
        cls = self.class_name
        lines += [
            "",
            "",
            f"class {cls}(Layout):",
            f'    """{self.title}, a lab of {self.kind}."""',
            "",
        ]
        for kind in ("Network", "Image", "Machine"):
            texts = [
                "    " + text_of(member.written, indent=4, before=f"{name} = ")
                for name, member in self.members.items()
                if member.kind == kind
            ]
            lines += [*texts, ""] if texts else []
        lines.pop()
        fixture = identifier(self.title).lower()
        lines += ["", "", f"{_apart(fixture, cls)} = {cls}.fixture()"]
        if self.remarks:
            lines += ["", "# Not as in the lab:"]
            for remark in self.sorted_remarks:
                lines += textwrap.wrap(
                    str(remark),
                    _WIDTH,
                    initial_indent="# * ",
                    subsequent_indent="#   ",
                    break_on_hyphens=False,
                )
        return "\n".join(lines) + "\n"


def identifier(text: str) -> str:
    """A name that Python takes."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "lab"
    return f"n{name}" if name[0].isdecimal() else name


def _apart(fixture: str, cls: str) -> str:
    return f"{fixture}_lab" if fixture == cls or keyword.iskeyword(fixture) else fixture


def _import(module: str, names: Collection[str]) -> str:
    flat = f"from {module} import {', '.join(_ordered(names))}"
    if len(flat) <= 100:
        return flat
    rows = "".join(f"    {name},\n" for name in _ordered(names))
    return f"from {module} import (\n{rows})"


def _ordered(names: Collection[str]) -> list[str]:
    """As formatters order imports: classes, then functions."""
    return sorted(names, key=lambda name: (name[0].islower(), name))


def _full_names(reference: str) -> list[str]:
    """What podman may call an image of this reference in its store."""
    tagged = reference if re.search(r"(:[^/]+|@.+)$", reference) else f"{reference}:latest"
    first = tagged.partition("/")[0]
    if "/" in tagged and ("." in first or ":" in first or first == "localhost"):
        return [tagged]
    library = tagged if "/" in tagged else f"library/{tagged}"
    return [f"docker.io/{library}", f"localhost/{tagged}", f"quay.io/{tagged}"]
