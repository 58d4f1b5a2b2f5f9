import os

from pytest_carthage import Image, Layout, Machine, Network, stage

ALL = "nginx postgresql redis apache haproxy mariadb ntp firewall security"

#: names of the roles that are wanted; without a word those that take least
ROLES = os.environ.get("ROLES", "nginx haproxy ntp").replace("all", ALL).split()

# What an installer leaves; all else is for the roles to install.

debian = Image.debian("bookworm").with_packages(
    "curl",
    "dbus",
    "iproute2",
    "libpam-systemd",
    "procps",
    "python3-apt",
    "sudo",
    "systemd-sysv",
)

lan = Network("10.0.0.0/24")


def server(role):
    address = lan.at(f".{10 + ALL.split().index(role)}")
    return Machine(debian, init="systemd", groups=["servers"], links={"eth0": address})


Site = Layout.of(
    "Site",
    {
        "packages": "open",
        "lan": lan,
        "client": Machine(links={"eth0": lan.at(".2")}),
        **{role: server(role) for role in ROLES},
    },
)

site = Site.fixture()


@stage
def converged(site):
    return site.ansible("site.yml", forks=len(ROLES))
