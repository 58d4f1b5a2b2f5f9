import json
import os
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_carthage import Image, Layout, Machine, Network, Role, filesystem_task, port, stage

HERE = Path(__file__).parent

debian = Image.debian("bookworm")
python = debian.with_packages("python3")


# What is delivered is written down in a file. Everything below is made of it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    version: str
    patches: list[str]
    packages: list[str]
    port: int
    currency: str


def read_definition(name):
    return Definition(**tomllib.loads((HERE / name).read_text()))


@pytest.fixture(scope="session")
def definition():
    return read_definition("shop-1.0.toml")


@pytest.fixture(scope="session")
def patched_definition():
    return read_definition("shop-1.1.toml")


# The artifact: a Debian package. The image in which it is built is a workbench that nobody ever
# boots, and since images are found again by their content, so is the package: with the same
# sources, patches and version there is nothing to do.


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench(Role):
    packages = ("patch",)
    version: str
    patches: tuple[str, ...] = ()

    @filesystem_task("build the package")
    async def build(self, fs):
        tree = "/build/tree"
        await fs.put("service/shop.py", f"{tree}/usr/lib/shop/shop.py")
        for patch in self.patches:
            await fs.put(f"patches/{patch}", "/build/")
            await fs.run(f"patch -p1 -d {tree}/usr/lib/shop < /build/{patch}")
        await fs.write_text(f"{tree}/usr/lib/shop/VERSION", f"{self.version}\n")
        await fs.template("service/control.j2", f"{tree}/DEBIAN/control")
        # the same bytes whenever it is built: no time of today in it
        await fs.run(
            f"dpkg-deb --root-owner-group --build {tree} /build/shop.deb",
            env={"SOURCE_DATE_EPOCH": "0"},
        )


# The application: two roles, since a layer is made again when any parameter of its role changes.
# What changes most often comes last.


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Role):
    port: int
    currency: str

    @filesystem_task("write the settings")
    async def settings(self, fs):
        await fs.template("shop.json.j2", "/etc/shop.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Application(Role):
    artifact: Path

    @filesystem_task("install the artifact")
    async def install(self, fs):
        await fs.put(self.artifact, "/run/shop.deb")
        await fs.run("dpkg --log=/dev/null --install /run/shop.deb")


# The hosts.


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerHost(Role):
    packages = ("crun", "zstd")
    groups = ("container_hosts",)


class Site(Layout):
    lan = Network("10.0.0.0/24")

    system = python.with_packages("dbus", "systemd-sysv")

    east = Machine(system, init="systemd", roles=[ContainerHost()], links={"eth0": lan.at(".1")})
    west = Machine(system, init="systemd", roles=[ContainerHost()], links={"eth0": lan.at(".2")})


site = Site.fixture()


class Pipeline:
    """The steps from sources to a container that runs; each takes what the one before gave."""

    def __init__(self, build):
        self.build = build

    def workbench(self, wanted):
        return self.build(
            debian.with_(
                Workbench(version=wanted.version, patches=tuple(wanted.patches)),
                name="workbench",
            )
        )

    def artifact(self, wanted):
        target = HERE / "dist" / f"shop_{wanted.version}_all.deb"
        target.parent.mkdir(exist_ok=True)
        # complete or not there, for whoever runs this suite at the same time
        part = target.with_suffix(f".{os.getpid()}")
        self.workbench(wanted).get("/build/shop.deb", part)
        return part.replace(target)

    def application(self, wanted, artifact):
        return self.build(
            python.with_packages(*wanted.packages).with_(
                Settings(port=wanted.port, currency=wanted.currency),
                Application(artifact=artifact),
                name="shop",
                tag=f"localhost/shop:{wanted.version}",
                command=["python3", "/usr/lib/shop/shop.py"],
                env={"PATH": "/usr/bin:/bin"},
                user="www-data",
                labels={"org.opencontainers.image.version": wanted.version},
            )
        )

    def deploy(self, site, application, hosts):
        # what is to be known of the image is asked from it
        user = application.host.user(application.user)
        settings = json.loads(application.read_text("/etc/shop.json"))
        container = {
            "command": list(application.command),
            "env": [f"{name}={value}" for name, value in application.env.items()],
            "uid": user.uid,
            "gid": user.gid,
        }
        with tempfile.TemporaryDirectory() as folder:
            archive = application.save(Path(folder) / "rootfs.tar.zst")
            result = site.ansible(
                HERE / "ansible" / "deploy.yml",
                limit=hosts,
                extra_vars={
                    "archive": str(archive),
                    "container": container,
                    "release": application.key,
                },
            )
        for host in hosts:
            site[host].wait_for(port(settings["port"]))
        return result


@pytest.fixture(scope="session")
def pipeline(carthage_build):
    return Pipeline(carthage_build)


# The five phases. Each is a fixture: whoever asks for the last has all of them.


@stage
def artifact(pipeline, definition):
    return pipeline.artifact(definition)


base = python.fixture()


@stage
def application(pipeline, definition, base, artifact):
    return pipeline.application(definition, artifact)


@stage
def hosts(site):
    return site.ansible(HERE / "ansible" / "host.yml")


@stage
def deployed(pipeline, site, hosts, application):
    return pipeline.deploy(site, application, ["east", "west"])


# The update: the same way again with the patched definition, and to one host only.


@stage
def update(pipeline, patched_definition, application):
    patched = pipeline.artifact(patched_definition)
    return pipeline.application(patched_definition, patched)


@stage
def updated(pipeline, site, deployed, update):
    return pipeline.deploy(site, update, ["east"])


# How long each phase took. Pytest sets a fixture up after those that it asks for.

PHASES = {
    "artifact": "artifact",
    "base": "base image",
    "application": "application image",
    "site": "hosts",
    "hosts": "hosts",
    "deployed": "container",
    "update": "update",
    "updated": "update",
}


class Clock:
    def __init__(self):
        self.seconds = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        begin = time.monotonic()
        try:
            return (yield)
        finally:
            phase = PHASES.get(fixturedef.argname)
            if phase:
                taken = time.monotonic() - begin
                self.seconds[phase] = self.seconds.get(phase, 0.0) + taken

    def pytest_terminal_summary(self, terminalreporter):
        if self.seconds:
            terminalreporter.section("phases")
        for phase, seconds in self.seconds.items():
            terminalreporter.line(f"{phase:20}{seconds:6.1f} s")


def pytest_configure(config):
    config.pluginmanager.register(Clock())
