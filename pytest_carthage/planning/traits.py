"""What a target's machines are like: rules and messages speak of this, never of targets' names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from pytest_carthage.handles.capability import CAPABILITIES, Capability
from pytest_carthage.model.on import On

__all__ = ["UNKNOWN", "Needs", "Root", "Traits", "traits_of"]

Root = Literal["host", "image", "existing"]
Needs = Literal["folders", "disk", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What all machines of one target have in common.

    Where a root is the host's and ``needs`` says what is taken of an image, that is so for machines
    without one; those with an image have its root: see :meth:`of`.

    :raises ValueError: the traits contradict each other.
    """

    #: where a machine's root file system comes from: it is the host's, an image's, or that of a
    #: machine that exists already
    root: Root
    #: whether a machine can boot an init of its own; none can that is over the host's files
    init: bool
    #: whether machines live outside of the fabric: they outlive it, so that each of them is
    #: written to the journal before it is created, and destroyed by the provider
    outside: bool
    #: what a machine takes of its image: folders to mount, a disk to start from, or nothing
    needs: Needs = "nothing"
    #: what none of its machines can be asked for; machines outside have no links in any case
    lacks: frozenset[Capability] = frozenset()
    #: whether machines can be given rights over the host: ``privileged=``, ``capabilities=`` and
    #: ``devices=``
    privileges: bool = False
    #: whether it starts main processes again, as ``restart=`` asks for
    restarts: bool = False
    #: what machines can tell it, as in ``on=Vm(...)``; None: nothing
    settings: type[On] | None = None
    #: whether they have to: it cannot tell by itself which machine is meant
    needs_settings: bool = False
    #: whether it takes machines that choose no target: those whose root it can give them. A class
    #: that inherits its traits from another provider's does not inherit this
    is_default: bool = False

    def __post_init__(self) -> None:
        for name, kinds in (("root", Root), ("needs", Needs)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(
                    f"traits: {name}={getattr(self, name)!r}; there are: {get_args(kinds)}"
                )
        if (self.root == "image" and self.needs == "nothing") or (
            self.root == "existing" and self.needs != "nothing"
        ):
            raise ValueError(
                f"traits: root={self.root!r} and needs={self.needs!r}; a root that comes from an "
                "image needs folders or a disk of it, and one that exists already needs nothing"
            )
        if self.needs_settings and self.settings is None:
            raise ValueError("traits: needs_settings=True and settings=None: there are none")
        if unknown := self.lacks - set(CAPABILITIES):
            raise ValueError(f"traits: lacks={sorted(unknown)}; there are: {list(CAPABILITIES)}")

    @property
    def is_borrowed(self) -> bool:
        """Whether machines were there before, and are given back: what is theirs is not changed."""
        return self.root == "existing" and self.outside

    @property
    def has_own_kernel(self) -> bool:
        """Whether each machine starts a kernel of its own, and configures its network by itself."""
        return self.needs == "disk"

    def of(self, *, has_image: bool) -> Traits:
        """What machines with an image, or without one, have in common."""
        if self.root != "host" or self.needs == "nothing":
            return self
        if has_image:
            return replace(self, root="image")
        return replace(self, needs="nothing", init=False)

    def can(self, capability: Capability) -> bool:
        """Whether its machines can be asked for this, as far as is known before they exist."""
        return capability not in self.lacks and not (self.outside and capability == "links")


def traits_of(provider: Any) -> Traits:
    """The traits of a provider, or of a provider's class.

    Machines that choose no target must not change theirs, or have two to choose from, since
    somebody subclassed its provider: inherited traits are never those of a default.
    """
    traits: Traits = provider.traits
    is_own = any("traits" in getattr(each, "__dict__", ()) for each in (provider, type(provider)))
    return traits if is_own or not traits.is_default else replace(traits, is_default=False)


#: of a machine whose target is not looked at
UNKNOWN = Traits(root="existing", init=True, outside=False)
