"""A certificate authority: who trusts it, and what it signs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_carthage import Layout, LayoutError, Machine, Network, Role
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.model.task import machine_task
from pytest_carthage.planning import make_plan
from pytest_carthage.roles import Certificate, CertificateAuthority, DnsServer
from tests.live.conftest import Build
from tests.providers.conftest import DEBIAN
from tests.support.unprivileged import REPOSITORY, as_user

SERVE = "setsid openssl s_server -accept 443 -www -cert {0} -key {1} >/run/served 2>&1 </dev/null &"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
CA = "/etc/ssl/certs/carthage-ca.pem"


class Https(Role):
    """Whatever answers by TLS, with the machine's certificate."""

    @machine_task("serve https")
    async def serve(self, machine):  # type: ignore[no-untyped-def]
        given = Certificate()
        await machine.run(SERVE.format(given.certificate_path, given.key_path))


class Trusting(Layout):
    """`web` stands before `ca`, and nobody says who waits for whom."""

    lan = Network("10.0.0.0/24")
    web = Machine(
        links={"eth0": lan.at(".2", dns_name="www.example")},
        roles=[Certificate(names=("shop.test", "192.0.2.9")), Https()],
    )
    client = Machine(links={"eth0": lan.at(".3")})
    ca = Machine(links={"eth0": lan.at(".1")}, roles=[CertificateAuthority(name="CA of a test")])
    ns = Machine(links={"eth0": lan.at(".4")}, roles=[DnsServer(domain="shop.example")])


def get(client: MachineHandle, host: str, more: str = "") -> str:
    done = client.run(
        f"for i in 1 2 3 4 5 6 7 8 9; do curl -sS --max-time 10 {more} https://{host}/ && exit;"
        " [ $? = 7 ] || exit; sleep 0.2; done 2>&1",
        check=False,
    )
    return done.stdout


def test_machines_with_a_certificate_wait_for_the_authority() -> None:
    after = {name: one.after for name, one in make_plan(Trusting).machines.items()}
    assert after == {"web": ("ca",), "client": (), "ca": (), "ns": ()}


def test_certificate_without_an_authority_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"its role Certificate needs 'ca', which no machine of"):

        class Alone(Layout):
            web = Machine(roles=[Certificate()])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("CertificateAuthority(days=0)", r"days=0 is not from 1 to 10000.*; try: days=30"),
        ("CertificateAuthority(name='a\\nb')", r"is not 1 to 64 characters of one line"),
        ("Certificate(name='ca')", r"name='ca' is not a name for its files"),
        ("Certificate(name='a/b')", r"name='a/b' is not a name for its files"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(wrong: str, told: str) -> None:
    with pytest.raises(LayoutError, match=told):
        eval(wrong)


@pytest.fixture
def trusting(build: Build) -> Layout:
    if not shutil.which("curl") or not shutil.which("openssl"):
        pytest.skip("no curl, or no openssl")
    return build(Trusting)


@pytest.mark.real
def test_all_machines_trust_what_it_signs(trusting: Layout) -> None:
    before = BUNDLE.read_bytes()
    client, authority = trusting["client"], trusting["ca"]
    for host in ("web", "10.0.0.2", "www.example"):
        assert "Ciphers supported" in get(client, host)
    for host in ("shop.test", "web.shop.example"):
        assert "Ciphers supported" in get(client, host, f"--connect-to {host}:443:web:443")
    other = get(client, "other.test", "--connect-to other.test:443:web:443")
    assert "matches target host name" in other
    assert "Ciphers supported" in get(authority, "web")
    # one that nobody knew of
    late = trusting.add(name="late", machine=Machine(links={"eth0": Trusting.lan.at(".9")}))
    assert "Ciphers supported" in get(late, "web")
    # after a start it has the host's files again, but for what is put there anew
    client.restart()
    assert "Ciphers supported" in get(client, "web")
    # what is outside trusts nobody of these
    assert BUNDLE.read_bytes() == before


@pytest.mark.real
def test_authority_survives_its_restart(trusting: Layout) -> None:
    trusting["ca"].restart()
    late = Machine(links={"eth0": Trusting.lan.at(".9")}, roles=[Certificate(), Https()])
    trusting.add(name="late", machine=late)
    assert "Ciphers supported" in get(trusting["client"], "late")
    assert "Ciphers supported" in get(trusting["ca"], "late")


@pytest.mark.real
def test_files_are_as_strict_programs_want_them(trusting: Layout) -> None:
    web = trusting["web"]
    told = web.run(
        "openssl x509 -noout -text -in /etc/ssl/carthage/server.pem; "
        "openssl verify -purpose sslserver -x509_strict /etc/ssl/carthage/server.pem; "
        "stat -c %a-%U /etc/ssl/carthage/server.key"
    ).stdout
    assert "Issuer: CN = CA of a test" in told
    assert "IP Address:192.0.2.9" in told
    assert told.splitlines()[-2:] == ["/etc/ssl/carthage/server.pem: OK", "600-root"]
    folder = trusting.folder / "ca"
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="is run as a user already")
def test_ordinary_user_has_all_of_it() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        module = "tests/roles/test_ca.py::test_all_machines_trust_what_it_signs"
        options = ["-p", "no:cacheprovider", f"--basetemp={name}/tmp", "-q"]
        argv = as_user([sys.executable, "-m", "pytest", *options, module], home=Path(name))
        done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=100)
    assert "1 passed" in done.stdout or "1 skipped" in done.stdout, done.stdout


@pytest.mark.real
def test_two_layouts_have_two_authorities(build: Build) -> None:
    class Other(Layout):
        lan = Network("10.0.0.0/24")
        ca = Machine(links={"eth0": lan.at(".1")}, roles=[CertificateAuthority(), Certificate()])

    one, two = build(Other), build(Other)
    pem = one["ca"].read_text("/etc/ssl/carthage/server.pem")
    assert one["ca"].run("openssl verify /etc/ssl/carthage/server.pem").ok
    two["ca"].write_text("/run/other.pem", pem)
    assert not two["ca"].run("openssl verify /run/other.pem", check=False).ok


class Contained(Layout):
    """Containers: `bare` has no update-ca-certificates, `full` has it, and boots systemd."""

    lan = Network("10.0.0.0/24")
    web = Machine(
        DEBIAN.with_packages("openssl"),
        roles=[Certificate(), Https()],
        links={"eth0": lan.at(".2")},
    )
    bare = Machine(DEBIAN.with_packages("curl", "openssl"), links={"eth0": lan.at(".3")})
    full = Machine(
        DEBIAN.with_packages("curl", "ca-certificates"),
        init="systemd",
        links={"eth0": lan.at(".4")},
    )
    ca = Machine(DEBIAN, links={"eth0": lan.at(".1")}, roles=[CertificateAuthority()])


@pytest.mark.real
@pytest.mark.timeout(400)
def test_containers_with_and_without_the_tool_trust_it(build_containers: Build) -> None:
    live = build_containers(Contained)
    bare, full = live["bare"], live["full"]
    assert not bare.exists("/usr/sbin/update-ca-certificates")
    assert full.exists("/usr/sbin/update-ca-certificates")
    for client in (bare, full):
        assert "Ciphers supported" in get(client, "web")
        client.restart()
        assert "Ciphers supported" in get(client, "web")
        assert client.read_text(str(BUNDLE)).count(live["ca"].read_text(CA)) == 1
    # as programs do that look for it in the folder, by its hash
    ask = "openssl s_client -connect web:443 -CApath /etc/ssl/certs -no-CAfile -no-CAstore 2>&1"
    for client in (bare, full):
        assert "Verify return code: 0 (ok)" in client.run(f"echo | {ask}").stdout
    late = live.add(
        Machine(DEBIAN.with_packages("curl"), links={"eth0": Contained.lan.at(".9")}), name="late"
    )
    assert "Ciphers supported" in get(late, "web")
