"""A new network namespace is as on a host that nobody has configured."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

_CODE = """\
import json
from pytest_carthage.fabric import devconf
from pytest_carthage.fabric import syscalls as sys_

def read(path):
    return open(f"/proc/sys/net/ipv4/conf/{path}").read().strip()

def write(path, value):
    open(f"/proc/sys/net/ipv4/conf/{path}", "w").write(value)

sys_.unshare(sys_.CLONE_NEWNET)
for path in ("all/rp_filter", "default/rp_filter", "all/arp_ignore"):
    write(path, "1")
write("default/accept_redirects", "0")
found = dict(devconf.differences())
write("lo/rp_filter", "1")
devconf.reset()
left = devconf.differences()
print(json.dumps([found, left, read("lo/rp_filter"), read("default/accept_redirects")]))
"""


@pytest.mark.real
def test_settings_of_a_hardened_host_are_not_taken_over() -> None:
    if os.geteuid() != 0:
        pytest.skip("makes a network namespace, which needs root")
    run = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True)
    found, left, loopback, redirects = json.loads(run.stdout)
    expected = {
        "all/rp_filter": "0",
        "default/rp_filter": "0",
        "all/arp_ignore": "0",
        "default/accept_redirects": "1",
    }
    assert expected.items() <= found.items()
    assert (left, loopback, redirects) == ([], "0", "1")
