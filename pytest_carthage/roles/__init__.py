"""Roles that come with the package: as much as a layout needs to have something to talk to."""

from pytest_carthage.roles.bird import OspfRouter, ospf_neighbours
from pytest_carthage.roles.ca import Certificate, CertificateAuthority
from pytest_carthage.roles.consul import Consul
from pytest_carthage.roles.dhcp_dns import DhcpServer, DnsServer
from pytest_carthage.roles.frr.convergence import converged
from pytest_carthage.roles.frr.router import FrrRouter
from pytest_carthage.roles.frr.vtysh import vtysh
from pytest_carthage.roles.nginx import Nginx
from pytest_carthage.roles.postgres import Postgres
from pytest_carthage.roles.router import Router
from pytest_carthage.roles.ssh import SshServer, ssh_key
from pytest_carthage.roles.startup import Startup

__all__ = [
    "Certificate",
    "CertificateAuthority",
    "Consul",
    "DhcpServer",
    "DnsServer",
    "FrrRouter",
    "Nginx",
    "OspfRouter",
    "Postgres",
    "Router",
    "SshServer",
    "Startup",
    "converged",
    "ospf_neighbours",
    "ssh_key",
    "vtysh",
]
