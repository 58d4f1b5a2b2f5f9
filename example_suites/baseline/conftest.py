import pytest

from pytest_carthage import Image, Layout, Machine, Network, stage

# A server as it comes from the installer.

debian = Image.debian("bookworm").with_packages(
    "chrony",
    "cron",
    "curl",
    "dbus",
    "e2fsprogs",
    "haproxy",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "locales",
    "logrotate",
    "netbase",
    "nftables",
    "nginx-light",
    "openssh-server",
    "procps",
    "python3-apt",
    "rsyslog",
    "sudo",
    "systemd-sysv",
    "tzdata",
)


class Site(Layout):
    lan = Network("10.0.0.0/24")

    server = Machine(debian, init="systemd", links={"eth0": lan.at(".1")})
    client = Machine(links={"eth0": lan.at(".2")})


site = Site.fixture()


@stage
def baseline(site):
    return site.ansible("baseline.yml", limit="server")
