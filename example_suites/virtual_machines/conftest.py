from dataclasses import dataclass

from pytest_carthage import (
    Disk,
    Image,
    Layout,
    Machine,
    Network,
    Role,
    Vm,
    filesystem_task,
    port,
    stage,
)
from pytest_carthage.roles import Postgres

# A plant: a database and an operator's desk, which are virtual machines, and the line that sends
# readings, which needs no kernel of its own.

debian = Image.debian("bookworm").with_packages("dbus", "iproute2", "procps", "python3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk(Role):
    """A desk of an operator, with the kernel of today; that of tomorrow is installed beside it."""

    packages = (
        "grub2-common",
        "linux-image-6.12-cloud-amd64",
        "linux-image-cloud-amd64",
        "systemd-sysv",
        "tiny-initramfs",
    )

    @filesystem_task("start the kernel of today")
    async def hold(self, fs):
        await fs.run("mkdir /boot/grub; grub-set-default $(cd /boot; ls vmlinuz-6.1.* | cut -c 9-)")

    @filesystem_task("let root log in at the screen")
    async def unlock(self, fs):
        await fs.run("passwd --delete root")


class Plant(Layout):
    lan = Network("10.0.0.0/24")

    db = Machine(
        debian.with_packages("e2fsprogs", "systemd-sysv", "udev").with_(
            Postgres(databases=("plant",))
        ),
        init="systemd",
        on=Vm(disks=(Disk(name="history", size_mib=32),)),
        links={"eth0": lan.at(".10")},
        wait_for=port(5432),
        ready_timeout_s=120,
    )
    desk = Machine(
        debian.with_(Desk()),
        init="systemd",
        on=Vm(boot="disk", graphics=True),
        links={"eth0": lan.at(".20")},
        ready_timeout_s=120,
    )
    line = Machine(
        debian.with_packages("python3-psycopg2"),
        links={"eth0": lan.at(".30")},
    )


plant = Plant.fixture()


@stage(timeout_s=300)
async def history(plant):
    """Old readings have a small disk of their own; an emulated machine may be long to find it."""
    db = plant.db.aio
    await db.run("""
        disk=/dev/disk/by-id/virtio-history
        mkfs.ext4 -q $disk
        mkdir /srv/history
        echo "$disk /srv/history ext4 x-systemd.device-timeout=0 0 0" >> /etc/fstab
        mount /srv/history
        chown postgres: /srv/history
    """)
    await db.run(
        ["psql", "--quiet", "--set", "ON_ERROR_STOP=1", "plant"],
        user="postgres",
        input="""
        CREATE TABLESPACE history LOCATION '/srv/history';
        CREATE TABLE old (page text) TABLESPACE history;
        ALTER TABLE old ALTER page SET STORAGE EXTERNAL;
        CREATE TABLE readings (number integer PRIMARY KEY);
        """,
    )
