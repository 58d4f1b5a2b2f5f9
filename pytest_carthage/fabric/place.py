"""Where a machine lives, whether it is on or off: its network, its root, the ends of its cables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_carthage.fabric import birth, links, netlink
from pytest_carthage.fabric.container.users import Domain, new_domain

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.pairs import Pairs
    from pytest_carthage.fabric.roots import Roots
    from pytest_carthage.fabric.spec import MachineSpec
    from pytest_carthage.fabric.wire.steps import Steps


class Place:
    """The place of one machine."""

    def __init__(self, spec: MachineSpec, home: Home) -> None:
        self._spec = spec
        self._home = home
        #: descriptor of its network namespace; -1: it has none
        self.namespace = -1
        #: users and network of a system container
        self.domain: Domain | None = None
        #: whether its links are to be in service
        self.is_plugged = True

    @property
    def ports(self) -> list[str]:
        """The fabric's ends of its links."""
        return [port for link in self._spec["links"] for port in links.ports(link)]

    def connect(self) -> None:
        """Make its network namespace.

        :raises OSError: the kernel refused.
        """
        root = self._spec.get("root")
        if root is None:
            self.namespace = self._home.new_network()
            return
        self.domain = new_domain(*root["ids"])
        self.namespace = self.domain.network

    def mount(self, roots: Roots) -> Steps[None]:
        """Mount the root of a system container, and give it its control group.

        :raises OSError: the kernel refused, or somebody else has locked the top layer.
        """
        root = self._spec.get("root")
        if root is None or self.domain is None:
            return
        yield from roots.mount(
            self._spec["name"],
            lower=root["lower"],
            upper=root["upper"],
            work=root["work"],
            users=self.domain.users,
        )

    def plug(self, pairs: Pairs, *, up: bool, pulled: Callable[[str], bool]) -> None:
        """Put its links in service or take them out; a machine that is off answers nothing.

        :param pulled: whether a port stays out of service all the same.
        """
        self.is_plugged = up
        pairs.set_ports([port for port in self.ports if not (up and pulled(port))], up=up)
        # these have no port of their own
        shared = [link for link in self._spec["links"] if link["kind"] == "macvlan"]
        if not shared:
            return
        with self._home.visit(self.namespace):
            batch = netlink.Batch()
            if up:
                birth.set_up_links(batch, self._spec, shared, again=True)
            else:
                for link in shared:
                    batch.down(link["interface"])
            batch.commit()

    def close(self) -> None:
        """Let go of its network namespace, which ends with its last user."""
        if self.domain is not None:
            self.domain.close()
            self.domain = None
        elif self.namespace >= 0:
            os.close(self.namespace)
        self.namespace = -1
