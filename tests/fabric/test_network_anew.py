"""What was done in a namespace is undone."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

_CODE = """
import os, subprocess
from pytest_carthage.fabric import netlink, syscalls
from pytest_carthage.fabric.container import network
syscalls.unshare(syscalls.CLONE_NEWNET)
for family in (1, 2, 7):  # inet, ip, bridge
    netlink.try_table(family)
listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
assert listed.stdout.count("table") == 3, listed.stdout
assert network.clear({"eth0": network._Cable(None, 1500)}) == {"eth0"}
listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
assert listed.stdout == "", listed.stdout
"""


@pytest.mark.real
def test_tables_of_the_packet_filter_are_gone() -> None:
    if not shutil.which("nft", path="/usr/sbin:/usr/bin:/sbin:/bin"):
        pytest.skip("no nft")
    argv = ["unshare", "-rn", sys.executable, "-c", _CODE]
    done = subprocess.run(argv, capture_output=True, text=True)
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr)
    assert not done.returncode, done.stderr
