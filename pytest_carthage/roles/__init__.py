"""Roles that come with the package: as much as a layout needs to have something to talk to."""

from pytest_carthage.roles.bird import OspfRouter, ospf_neighbours
from pytest_carthage.roles.dhcp_dns import DhcpServer, DnsServer
from pytest_carthage.roles.nginx import Nginx
from pytest_carthage.roles.postgres import Postgres
from pytest_carthage.roles.router import Router

__all__ = [
    "DhcpServer",
    "DnsServer",
    "Nginx",
    "OspfRouter",
    "Postgres",
    "Router",
    "ospf_neighbours",
]
