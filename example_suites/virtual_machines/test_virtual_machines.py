"""What happens to disks, plugs and kernels, on machines that have their own."""

import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_carthage import command, screen

pytestmark = pytest.mark.usefixtures("history")

READINGS = """
import itertools, psycopg2
patience = "keepalives_idle=1 keepalives_interval=1 keepalives_count=3 tcp_user_timeout=3000"
database = psycopg2.connect("host=db dbname=plant user=postgres " + patience)
database.autocommit = True
for number in itertools.count(1):
    database.cursor().execute("INSERT INTO readings VALUES (%s)", [number])
    with open("/tmp/acknowledged", "a") as file:
        print(number, file=file)
"""


def psql(machine, query, **options):
    return machine.run(["psql", "-qAt", "-c", query, "plant"], user="postgres", **options)


def test_virtual_machines_and_containers_are_neighbours(plant):
    plant.line.connect(5432, "db").close()
    assert plant.line.ping("desk") < 1.0
    kernels = {machine.name: machine.run("uname -r").stdout for machine in plant}
    assert kernels["line"] not in (kernels["db"], kernels["desk"])


def test_full_disk_is_told_to_who_fills_it_and_to_nobody_else(plant):
    page = "INSERT INTO old SELECT repeat('x', 100000) FROM generate_series(1, 1000)"
    done = psql(plant.db, page, check=False)
    assert "Check free disk space" in done.stderr
    psql(plant.db, "CREATE TABLE other AS SELECT generate_series(1, 1000)")
    psql(plant.db, "DROP TABLE old")
    psql(plant.db, "CREATE TABLE new TABLESPACE history AS SELECT 'fits'")
    psql(plant.db, "CHECKPOINT")  # else a recovery would fill it once more


def test_what_was_acknowledged_survives_a_pulled_plug(plant):
    acknowledged = "/tmp/acknowledged"
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(plant.line.run, ["python3", "-c", READINGS], check=False)
        plant.line.wait_for(command(f"test $(wc -l < {acknowledged}) -ge 50"))
        with plant.db.crash():
            assert not writing.result().ok
    sent = {int(number) for number in plant.line.read_text(acknowledged).split()}
    kept = {int(number) for number in psql(plant.db, "SELECT number FROM readings").lines}
    # the last one may have been written without anybody having heard of it
    assert kept in (sent, sent | {max(sent) + 1})
    log = plant.db.run("cat /var/log/postgresql/*.log").stdout
    assert "database system was not properly shut down; automatic recovery in progress" in log


def test_desk_comes_back_with_the_kernel_of_tomorrow(plant):
    assert plant.desk.run("uname -r").stdout.startswith("6.1.")
    plant.desk.run("grub-set-default $(cd /boot; ls vmlinuz-6.12.* | cut -c 9-)")
    plant.desk.reboot()
    assert plant.desk.run("uname -r").stdout.startswith("6.12.")
    assert plant.desk.run("systemctl --failed --plain --no-legend").lines == []
    assert plant.line.ping("desk") < 1.0


def test_operator_logs_in_at_the_screen(plant, tmp_path):
    plant.desk.wait_for(screen("desk login:"))
    plant.desk.send_keys("root\n")
    plant.desk.wait_for(screen("root@desk"))
    picture = plant.desk.screenshot(tmp_path / "desk.png")
    width, height = struct.unpack(">II", picture[16:24])
    assert (width, height) >= (640, 400)
