from dataclasses import dataclass

from pytest_carthage import Image, Layout, Machine, Network, Role, filesystem_task, port


# A role says what a file system must have to be of use. Its fields are its parameters.
@dataclass(frozen=True, slots=True, kw_only=True)
class Quotes(Role):
    """A Python service that answers with quotes."""

    packages = ("python3",)
    offers = ("quotes",)
    port: int = 8000

    # Paths of the host are relative to this file. Each task becomes one layer of the image.
    @filesystem_task("copy the program")
    async def program(self, fs):
        await fs.put("quotes.py", "/opt/quotes/quotes.py")
        await fs.put("quotes.txt", "/etc/quotes.txt")


# Inheritance: the tasks of `Quotes` are done first, then these, in this order.
@dataclass(frozen=True, slots=True, kw_only=True)
class Server(Quotes):
    """The service as systemd runs it, without what a server does not need."""

    unwanted: tuple[str, ...] = ("e2fsprogs", "ed", "netcat-openbsd")

    @filesystem_task("purge what is unwanted")
    async def purge(self, fs):
        await fs.purge(*self.unwanted)

    # The template knows the role's parameters. systemd need not run to enable a unit.
    @filesystem_task("install the unit")
    async def unit(self, fs):
        await fs.template("quotes.service.j2", "/etc/systemd/system/quotes.service")
        await fs.enable("quotes")


# What all servers begin with, whether they need it or not.
COMMON = ("dbus", "ed", "netcat-openbsd", "systemd-sysv")

bookworm = Image.debian("bookworm").with_packages(*COMMON)
trixie = Image.debian("trixie").with_packages(*COMMON)

image = bookworm.with_(
    Server(),
    name="quotes",
    tag="localhost/quotes:1",
    command=["/sbin/init"],
    env={"LANG": "C.UTF-8"},
    labels={"org.opencontainers.image.title": "Quotes"},
    healthcheck="python3 -c 'import urllib.request as r; r.urlopen(\"http://localhost:8000\")'",
)

# A fixture that builds the image, or finds it, and gives what tests ask.
quotes = image.fixture()


class Servers(Layout):
    lan = Network("10.0.0.0/24")

    # The image has the role, so nothing is left to do here but to boot.
    built = Machine(image, links={"eth0": lan.at(".1")}, wait_for=port(8000))

    # Another Debian, which lacks the role: its tasks are done on the machine itself.
    other = Machine(
        trixie,
        init="systemd",
        roles=[Server()],
        links={"eth0": lan.at(".2")},
        wait_for=port(8000),
    )


servers = Servers.fixture()
