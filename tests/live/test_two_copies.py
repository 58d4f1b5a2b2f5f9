"""Live copies of one layout, with the same addresses at the same time: none hears of another.

Four of them: two in one process, and one in each of two workers of another session. All their
machines send at once; it is watched in every fabric and in the host's own network namespace.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_carthage.live.packets.taps import Tap
from tests.plugin.conftest import wait_until_clean
from tests.support.host import netns_lacks

pytestmark = pytest.mark.real

COPIES = 4

CONFTEST = """
from pytest_carthage import Layout, Machine, Network


class Twin(Layout):
    lan = Network("10.0.0.0/24")
    dmz = Network("192.0.2.0/24")
    gw = Machine(links={"lan0": lan.at(".1"), "dmz0": dmz.at(".1")}, forward=True)
    db = Machine(links={"eth0": lan.at(".10", gateway=".1")})
    web = Machine(links={"eth0": dmz.at(".20", gateway=".1")})


one = Twin.fixture(name="one")
two = Twin.fixture(name="two")
"""

TESTS = '''
import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

import pytest

SHARED = Path(os.environ["SHARED"])
COPIES = int(os.environ["COPIES"])
SAYS = """
import socket, sys, time
token, *addresses = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for number in range(20):
    for address in addresses:
        s.sendto(token.encode(), (address, 4000 + number))
    time.sleep(0.01)
"""


async def all_are(state, name):
    """Tell how far this copy is, and wait until all copies are as far."""
    (SHARED / f"{state}-{name}").touch()
    deadline = time.monotonic() + 60
    while len(list(SHARED.glob(f"{state}-*"))) < COPIES:
        assert time.monotonic() < deadline, f"not all copies are {state}"
        await asyncio.sleep(0.01)


async def live(layout):
    token = f"copy:{layout.name}:"
    mine = [a for machine in layout.machines() for a in layout[machine].addresses.values()]
    everybody = [*mine, "10.0.0.255", "192.0.2.255", "192.0.2.77"]
    aio = layout.aio
    async with aio.capture("lan") as lan, aio.capture("dmz") as dmz:
        await all_are("ready", layout.name)
        near = {"gw": ["10.0.0", "192.0.2"], "db": ["10.0.0"], "web": ["192.0.2"]}
        await asyncio.gather(*(
            aio[name].run(["python3", "-c", SAYS, token + name, *(
                a for a in everybody if not a.endswith(".255") or a[:-4] in near[name]
            )])
            for name in ("gw", "db", "web")
        ))
        await all_are("silent", layout.name)
    packets = [*lan, *dmz]
    assert lan.lost == dmz.lost == 0
    said = {packet.payload for packet in packets if packet.payload.startswith(b"copy:")}
    assert said == {f"{token}{name}".encode() for name in ("gw", "db", "web")}
    # whoever speaks is known
    strangers = [str(p) for p in packets if p.sender is None]
    assert strangers == []
    assert len(packets) > 200
    (SHARED / f"proved-{layout.name}").write_text(json.dumps(layout.gw.addresses))


@pytest.mark.parametrize("number", range(int(os.environ["TESTS"])))
def test_copy(one, number, request):
    layouts = [one]
    if os.environ["BOTH"]:
        layouts.append(request.getfixturevalue("two"))

    async def go():
        await asyncio.gather(*(live(layout) for layout in layouts))

    asyncio.run(go())
'''


def test_no_packet_strays_between_copies_in_processes_workers_and_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = netns_lacks()
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    monkeypatch.setenv("CARTHAGE_STATE", str(tmp_path / "state"))
    shared = tmp_path / "shared"
    shared.mkdir()
    tap = None
    if os.geteuid() == 0:
        tap = Tap.on(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0), None)
    sessions = []
    for name, tests, both, options in (("a", 1, "1", []), ("b", 2, "", ["-n2"])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "test_it.py").write_text(TESTS)
        plugins = ["-pno:asyncio", "-pno:hypothesispytest", "-pno:timeout"]
        sessions.append(
            subprocess.Popen(
                [sys.executable, "-m", "pytest", "-q", "--rootdir=.", *plugins, *options],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={
                    **os.environ,
                    "SHARED": str(shared),
                    "COPIES": str(COPIES),
                    "TESTS": str(tests),
                    "BOTH": both,
                },
            )
        )
    printed = [session.communicate(timeout=60)[0] for session in sessions]
    for session, text in zip(sessions, printed, strict=True):
        assert session.returncode == 0, "\n".join(printed)
        assert "passed" in text
    proofs = sorted(shared.glob("proved-*"))
    assert len(proofs) == COPIES
    assert len({proof.read_text() for proof in proofs}) == 1  # all have the same addresses
    assert wait_until_clean() == []
    if tap is not None:
        # the watch is worth something: it hears what is said in the host's namespace
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
            door.sendto(b"copy:of the host", ("127.0.0.1", 4000))
        heard = [seen.data for seen in tap.read() if b"copy:" in seen.data]
        lost = tap.lost
        tap.close()
        assert lost == 0
        assert heard
        assert all(b"copy:of the host" in data for data in heard), heard
