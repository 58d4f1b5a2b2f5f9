"""Files of compose: services are machines, in networks of theirs."""

from __future__ import annotations

import os
import re
import shlex
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pytest_carthage.labs.documents import Block, read
from pytest_carthage.labs.dotenv import beside, variables
from pytest_carthage.labs.expressions import Call, Method, Ref, Written
from pytest_carthage.labs.lab import Here, Lab
from pytest_carthage.labs.memory import mebibytes
from pytest_carthage.labs.processes import command_of
from pytest_carthage.labs.volumes import taken
from pytest_carthage.model.addresses.resolution import is_domain
from pytest_carthage.model.file import File
from pytest_carthage.model.image import Healthcheck, Image
from pytest_carthage.model.machine import Limits, Machine, command
from pytest_carthage.model.network import Network

__all__ = ["read_compose"]

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DEFAULT = "default"
#: what a service may say of itself in a network
_OF_LINKS = {"aliases", "ipv4_address", "ipv6_address", "mac_address", "priority"}


def read_compose(file: Path, here: Here, *, on: str | None = "podman") -> Lab:
    """Read ``compose.yaml``.

    :param on: target of its services; None: system containers.
    :raises LayoutError: something in it is wrong, with its line.
    """
    file = file.absolute()
    lab = Lab(
        kind="compose",
        file=file,
        title=file.parent.name,
        here=here,
    )
    document = read(file, lab.remarks, variables=beside(file))
    lab.title = document.text("name") or lab.title
    document.take("version")
    if document.take("volumes"):
        document.remark("volumes", "named volumes are not shared: each service keeps its own files")
    services = dict(document.blocks("services", "service"))
    if not services:
        raise document.mistake("", "there are no services", "services: {web: {image: nginx}}")
    lab.claim(services)
    networks = _networks(lab, document, services)
    document.leave()
    reading = _Services(lab, services, networks, on)
    for name in _ordered(services):
        reading.add(name)
    return lab


def _attached(block: Block) -> dict[str, dict[str, Any]]:
    """Name to settings, of the networks that a service is in."""
    value = block.take("networks")
    if block.values.get("network_mode") is not None:
        return {}
    if value is None:
        return {_DEFAULT: {}}
    if isinstance(value, list):
        return {str(name): {} for name in value}
    if isinstance(value, dict) and all(isinstance(one or {}, dict) for one in value.values()):
        return {str(name): settings or {} for name, settings in value.items()}
    raise block.mistake("networks", f"networks is {value!r} instead of a list", "networks: [front]")


def _networks(lab: Lab, document: Block, services: dict[str, Block]) -> dict[str, Ref]:
    blocks = dict(document.blocks("networks", "network"))
    used = {name: None for block in services.values() for name in _attached(block)}
    subnets = {
        name: [str(row["subnet"]) for row in _pools(block)] for name, block in blocks.items()
    }
    taken_subnets = [ip_network(text) for row in subnets.values() for text in row]
    free = (
        subnet
        for subnet in ip_network("172.16.0.0/12").subnets(new_prefix=24)
        if not any(other.version == 4 and subnet.overlaps(other) for other in taken_subnets)
    )
    made = {}
    for name in [*blocks, *(name for name in used if name not in blocks)]:
        block = blocks.get(name)
        if block is None and name != _DEFAULT:
            asking = next(one for one in services.values() if name in _attached(one))
            known = ", ".join(blocks) or "none"
            raise asking.mistake("networks", f"there is no network {name!r}", f"one of {known}")
        arguments: dict[str, Any] = {}
        if block is not None:
            for key in ("driver", "internal", "name", "attachable"):
                block.take(key)  # no network of a layout leads out
            if block.take("external"):
                block.remark("external", "it is not the network that is elsewhere, but one like it")
            block.take("enable_ipv6")
            block.leave()
        place = (document if block is None else block).place()
        call = Call(
            function=Network,
            name="Network",
            args=tuple(subnets.get(name) or [str(next(free))]),
            kwargs=arguments,
        )
        made[name] = lab.add(lab.name_for(name), call, place)
    return made


def _pools(block: Block) -> list[dict[str, Any]]:
    ipam = block.block("ipam")
    ipam.take("driver")
    rows = ipam.rows("config")
    for row in rows:
        try:
            ip_network(row["subnet"])
        except (KeyError, TypeError, ValueError):
            what = f"config has {row!r} instead of a subnet"
            raise ipam.mistake("config", what, "config: [{subnet: 10.0.0.0/24}]") from None
    return rows


def _ordered(services: dict[str, Block]) -> list[str]:
    """Names of services, those that others depend on first."""
    ordered: dict[str, None] = {}

    def visit(name: str, way: tuple[str, ...]) -> None:
        block = services[name]
        for other in _dependencies(block):
            if other not in services:
                raise block.mistake(
                    "depends_on", f"there is no service {other!r}", f"one of {', '.join(services)}"
                )
            if other in way:
                raise block.mistake(
                    "depends_on", f"{' needs '.join([*way, other])}", "leave one of them out"
                )
            visit(other, (*way, other))
        ordered.setdefault(name)

    for name in services:
        visit(name, (name,))
    return list(ordered)


def _dependencies(block: Block) -> dict[str, str]:
    """Name of a service to what is awaited of it."""
    started = "service_started"
    value = block.take("depends_on")
    if isinstance(value, dict):
        return {
            str(name): str(settings.get("condition", started))
            if isinstance(settings, dict)
            else started
            for name, settings in value.items()
        }
    return dict.fromkeys(block.texts("depends_on"), started)


class _Services:
    """Services of a file, one after the other."""

    def __init__(
        self, lab: Lab, services: dict[str, Block], networks: dict[str, Ref], on: str | None
    ) -> None:
        self._lab = lab
        self._services = services
        self._networks = networks
        self._on = on
        #: that somebody has, in lower case
        self._names = {name.lower() for pair in lab.machines.items() for name in pair}

    def add(self, name: str) -> None:
        """Have a machine for a service, after those that it depends on."""
        block = self._services[name]
        place = block.place()
        arguments: dict[str, Any] = {}
        member = self._lab.machines[name]
        image = self._image(block, arguments)
        if links := self._links(block):
            arguments = {"links": links, **arguments}
        hostname = block.text("hostname") or name
        if member.replace("_", "-") != hostname:
            arguments["hostname"] = hostname
        self._process(block, arguments)
        self._rights(block, arguments)
        dependencies = _dependencies(block)
        if dependencies:
            arguments["after"] = [Ref(self._lab.machines[other]) for other in dependencies]
        for other, condition in dependencies.items():
            if condition == "service_completed_successfully":
                block.remark("depends_on", f"{other!r} has begun, and need not have ended")
        for port in block.rows("ports"):
            inner = port.get("target") if isinstance(port, dict) else str(port).rpartition(":")[2]
            lasting = f"{member}.forward({str(inner).partition('/')[0]})"
            block.remark("ports", f"no port of this host leads to it, but while {lasting} does")
        for key in ("container_name", "expose", "labels", "stdin_open", "tty", "init", "platform"):
            block.take(key)
        for key in ("pull_policy", "logging", "stop_grace_period"):
            block.take(key)
        if self._on is not None:
            arguments["on"] = self._on
        block.leave()
        args = () if image is None else (image,)
        self._lab.add(
            member, Call(function=Machine, name="Machine", args=args, kwargs=arguments), place
        )

    def _image(self, block: Block, arguments: dict[str, Any]) -> Written | None:
        files = self._files(block)
        reference, build = block.text("image"), block.take("build")
        image: Written | None
        if build is not None:
            image = self._built(block, build)
        elif reference is None:
            raise block.mistake("image", "it has neither image nor build", "image: NAME:TAG")
        else:
            image = self._lab.image(reference, block.place("image"), files)
            files = []
        more: dict[str, Any] = {}
        for key, name in (("user", "user"), ("working_dir", "workdir")):
            if text := block.text(key):
                more[name] = text
        begun_with = None if build is not None else reference
        if words := command_of(block, self._lab, begun_with, "command"):
            arguments["command"] = words
        check = self._healthcheck(block)
        if check is not None and self._on == "podman":
            more["healthcheck"] = check
        elif check is not None:
            line = shlex.join(check.kwargs["command"])
            arguments["wait_for"] = Call(function=command, name="command", args=(line,))
        if image is None:
            return None
        put = [Call(function=File, name="File", args=pair) for pair in self._near(files)]
        if not put and not more:
            return image
        if isinstance(image, Method):
            return Method(of=image.of, name="with_", args=(*image.args, *put), kwargs=more)
        return Method(of=image, name="with_", args=tuple(put), kwargs=more)

    def _near(self, files: list[tuple[Path, str]]) -> list[tuple[str, str]]:
        return [(os.path.relpath(source, self._lab.near), target) for source, target in files]

    def _built(self, block: Block, build: Any) -> Written:
        settings = build if isinstance(build, dict) else {"context": build}
        context = block.file.parent / str(settings.get("context", "."))
        file = context / str(settings.get("dockerfile", "Dockerfile"))
        if not file.exists():
            raise block.mistake("build", f"there is no {file}", "build: {context: ., dockerfile: }")
        if others := sorted(set(settings) - {"context", "dockerfile"}):
            block.remark("build", f"of build {', '.join(others)} is not taken")
        near = self._lab.near
        kwargs = {"context": os.path.relpath(context, near)} if file.parent != context else {}
        args = (os.path.relpath(file, near),)
        return Call(
            function=Image.containerfile, name="Image.containerfile", args=args, kwargs=kwargs
        )

    def _files(self, block: Block) -> list[tuple[Path, str]]:
        files = []
        for volume in block.rows("volumes"):
            if isinstance(volume, dict):
                source, target = str(volume.get("source", "")), str(volume.get("target", ""))
                is_bind = volume.get("type") == "bind"
            else:
                source, _, rest = str(volume).partition(":")
                target, is_bind = rest.partition(":")[0], source.startswith((".", "/", "~"))
                if not rest:
                    continue  # its own files, which it keeps
            path = taken(block, "volumes", source, target) if is_bind else None
            if path is not None:
                files.append((path, target.rstrip("/") or "/"))
        return files

    def _links(self, block: Block) -> dict[str, Written]:
        if block.take("network_mode") is not None:
            block.remark("network_mode", "network_mode is not taken: it has no networks")
        links: dict[str, Written] = {}
        for number, (name, settings) in enumerate(_attached(block).items()):
            addresses = [
                str(settings[key]) for key in ("ipv4_address", "ipv6_address") if key in settings
            ]
            for key in set(settings) - _OF_LINKS:
                block.remark("networks", f"{key} in network {name!r} is not understood")
            more = {"mac": str(settings["mac_address"])} if "mac_address" in settings else {}
            aliases = settings.get("aliases")
            wanted = [
                str(one) for one in (aliases if isinstance(aliases, list) else [aliases]) if one
            ]
            wanted += (
                [own_name] if number == 0 and (own_name := block.text("container_name")) else []
            )
            if alias := self._alias(block, wanted):
                more["dns_name"] = alias
            links[f"eth{number}"] = Method(
                of=self._networks[name], name="at", args=tuple(addresses), kwargs=more
            )
        return links

    def _alias(self, block: Block, wanted: list[str]) -> str | None:
        """The further name that a link has, of those wanted; of all others it is said."""
        new = [name for name in dict.fromkeys(wanted) if name.lower() not in self._names]
        alias = next((name for name in new if is_domain(name)), None)
        if alias is not None:
            self._names.add(alias.lower())
        if others := [name for name in new if name != alias]:
            block.remark(
                "networks", f"names {', '.join(others)} are not taken: there is one a link"
            )
        return alias

    def _process(self, block: Block, arguments: dict[str, Any]) -> None:
        env = variables(block, "env_file")
        own = beside(block.file)
        for key, text in block.pairs("environment").items():
            if text is None and key not in own:
                block.remark(
                    "environment", f"{key} has no value: the environment is not taken over"
                )
            env[key] = own.get(key, "") if text is None else text
        if env:
            arguments["env"] = env
        restart = block.text("restart")
        if restart and restart not in ("no", "false", "False"):
            arguments["restart"] = "always" if restart == "unless-stopped" else restart

    def _rights(self, block: Block, arguments: dict[str, Any]) -> None:
        for key, name in (("privileged", "privileged"), ("cap_add", "capabilities")):
            value = block.take(key) if key == "privileged" else block.texts(key)
            if not value:
                continue
            if self._on == "podman":
                arguments[name] = value
            else:
                block.remark(key, f"{key} is not taken: a system container has all of it inside")
        devices = block.texts("devices")
        if devices and self._on == "podman":
            arguments["devices"] = devices
        elif devices:
            block.remark("devices", 'devices are not taken: they take on="podman"')
        limits: dict[str, Any] = {}
        if (cpus := block.number("cpus")) is not None:
            limits["cpus"] = cpus
        if memory := block.text("mem_limit"):
            limits["memory_mib"] = mebibytes(block, "mem_limit", memory)
        if (pids := block.number("pids_limit")) is not None:
            limits["pids"] = int(pids)
        if limits:
            arguments["limits"] = Call(function=Limits, name="Limits", kwargs=limits)

    def _healthcheck(self, block: Block) -> Call | None:
        check = block.block("healthcheck")
        test = check.take("test")
        if test is None or check.take("disable") or test == ["NONE"]:
            return None
        if isinstance(test, list) and test[:1] == ["CMD"]:
            words = [str(word) for word in test[1:]]
        else:
            line = " ".join(map(str, test[1:])) if isinstance(test, list) else str(test)
            words = ["/bin/sh", "-c", line]
        arguments: dict[str, Any] = {"command": tuple(words)}
        for key in ("interval", "timeout", "start_period"):
            if text := check.text(key):
                arguments[f"{key}_s"] = _seconds(check, key, text)
        if (retries := check.number("retries")) is not None:
            arguments["retries"] = int(retries)
        check.take("start_interval")
        check.leave()
        return Call(function=Healthcheck, name="Healthcheck", kwargs=arguments)


def _seconds(block: Block, key: str, text: str) -> float:
    """A duration, as in ``1m30s``.

    :raises LayoutError: it is none.
    """
    parts = re.findall(r"([0-9.]+)(us|ms|s|m|h)", text)
    if not parts or "".join(map("".join, parts)) != text:
        raise block.mistake(key, f"{key} {text!r} is no duration", f"{key}: 10s")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
