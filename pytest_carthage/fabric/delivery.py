"""How a machine's first process comes into the world, with what it needs of the fabric's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_carthage.fabric import birth
from pytest_carthage.fabric import syscalls as sys_
from pytest_carthage.fabric.container import birth as container
from pytest_carthage.fabric.container import groups

if TYPE_CHECKING:
    from pytest_carthage.fabric.namespaces import Home
    from pytest_carthage.fabric.place import Place
    from pytest_carthage.fabric.shares import Shares
    from pytest_carthage.fabric.spec import MachineSpec
    from pytest_carthage.fabric.wire.control import Control


class Delivery:
    """One birth: the new process has an end of the machine's control, and its log.

    :raises OSError: the log cannot be written.
    """

    def __init__(self, spec: MachineSpec, control: Control) -> None:
        self._spec = spec
        self._control = control
        self._log = -1
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._log = os.open(spec["log"], flags, 0o600)
        except OSError:
            self.close()
            raise

    def fork(
        self,
        place: Place,
        home: Home,
        *,
        hosts: str,
        template: str | None,
        is_new: bool,
        own: Shares | None,
    ) -> int:
        """Fork the process, into its network and a new PID namespace; returns its number.

        :param is_new: the machine has never been started.
        :param own: tells of what it has of the host; None: that has all.
        :raises OSError: the kernel refused.
        """
        spec, control, log = self._spec, self._control, self._log
        root = spec.get("root")
        if place.domain is not None and root is not None:
            controllers = bool(root["init"])
            groups.delegate(spec["control_group"], root["ids"][0], controllers=controllers)
            return container.bear(
                spec, place.domain, control, log, hosts=hosts, is_new=is_new, own=own
            )
        try:
            with home.visit(place.namespace):
                sys_.unshare(sys_.CLONE_NEWPID)  # for the next child alone
                return birth.fork(
                    lambda: birth.become_process(
                        spec,
                        control,
                        log,
                        hosts=hosts,
                        template=template,
                        is_new=is_new,
                        own=own,
                    ),
                    keep=(control.fileno(), log, *([own.fd] if own is not None else [])),
                )
        finally:
            home.bear_here()

    def close(self) -> None:
        """Let go of what the process has, or would have had."""
        self._control.close()
        if self._log >= 0:
            os.close(self._log)
