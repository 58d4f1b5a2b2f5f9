"""DHCP and DNS for a layout, by one dnsmasq(8) in the machine that has the roles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_carthage.model.role import Role
from pytest_carthage.model.task import machine_task
from pytest_carthage.roles.named import check_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_carthage.model.addresses.resolution import PlannedAddressing, PlannedSubnet
    from pytest_carthage.model.network import Address
    from pytest_carthage.planning.plan import Plan, PlannedLink, PlannedMachine, PlannedNetwork
    from pytest_carthage.roles.served import Served

__all__ = ["DhcpServer", "DnsServer"]

#: where dnsmasq's files are, in the machine
FOLDER = "/run/carthage-dnsmasq"

_DNSMASQ: Mapping[str, str] = MappingProxyType({"dnsmasq": "dnsmasq-base"})
_DOMAIN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.ASCII)
_SHORTEST_LEASE_S = 120  # dnsmasq(8), --dhcp-range
#: router advertisements: how often, and for how long one holds
_ADVERTISED_S, _ROUTER_S = 60, 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpServer(Role):
    """Serves DHCP on the machine's networks, by dnsmasq: what the layout says about them.

    Served are the networks that have ``dhcp_ranges``, or links that ask; every link that asks and
    has a planned address gets that one. By IPv6 it advertises itself as a router where it is one
    (RFC 4861), the prefix for ``slaac``, and serves DHCPv6.
    """

    packages = ("dnsmasq-base",)
    programs = _DNSMASQ
    offers = ("dhcp",)
    serves_dhcp = True

    #: serve these networks only, whether anybody asks there or not; empty: see above
    networks: tuple[str, ...] = ()
    #: how long an address is lent, at least 120
    lease_s: int = 3600

    def __post_init__(self) -> None:
        if self.lease_s < _SHORTEST_LEASE_S:
            raise ValueError(
                f"DhcpServer: lease_s={self.lease_s} is below {_SHORTEST_LEASE_S}, the shortest "
                f"that dnsmasq lends; try: lease_s={_SHORTEST_LEASE_S}"
            )

    @machine_task("start dnsmasq")
    async def start(self, machine: Served) -> None:
        """Start dnsmasq; returns when it listens."""
        await _serve(self, machine)

    async def refresh(self, machine: Served) -> None:
        """Have it know the machines that there are now."""
        await _serve(self, machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsServer(Role):
    """Serves the names of the layout's machines and interfaces, by dnsmasq, forward and reverse.

    ``web`` and ``web.<domain>`` are the machine's addresses on its first link, ``eth0.web`` and
    ``eth0.web.<domain>`` those of one link, and a link's ``dns_name`` stands beside them. Other
    names do not exist, and no question leaves the machine, unless there is an ``upstream``.
    """

    packages = ("dnsmasq-base",)
    programs = _DNSMASQ
    offers = ("dns",)

    #: as in ``"shop.example"``; None: names without a domain only
    domain: str | None = None
    #: addresses of the servers that are asked for other names; on the layout's networks, as all is
    upstream: str | tuple[str, ...] = ()
    #: networks whose addresses it tells, empty: all; a link elsewhere is known by its public
    #: address, if it has one
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for address in _several(self.upstream):
            try:
                ip_address(address)
            except ValueError:
                raise ValueError(
                    f"DnsServer: upstream={address!r} is not an address; "
                    'try: that of a machine of the layout, as in upstream="192.0.2.53"'
                ) from None
        if self.domain is not None and not _DOMAIN.fullmatch(self.domain):
            raise ValueError(
                f"DnsServer: domain={self.domain!r} is not a domain name; "
                'try: domain="shop.example"'
            )

    @machine_task("start dnsmasq")
    async def start(self, machine: Served) -> None:
        """Start dnsmasq; returns when it listens."""
        await _serve(self, machine)

    async def refresh(self, machine: Served) -> None:
        """Have it know the machines that there are now."""
        await _serve(self, machine)


def _roles(machine: PlannedMachine) -> tuple[DhcpServer | None, DnsServer | None]:
    """What one dnsmasq has to do in this machine."""
    dhcp = next((role for role in machine.roles if isinstance(role, DhcpServer)), None)
    dns = next((role for role in machine.roles if isinstance(role, DnsServer)), None)
    return dhcp, dns


async def _serve(role: Role, machine: Served) -> None:
    """Write what dnsmasq reads, and start it, or have a running one read it again."""
    if role is not next(one for one in _roles(machine.planned) if one is not None):
        return  # the other one does it for both
    plan = machine.surroundings.plan
    await machine.run(["mkdir", "-p", FOLDER])
    for name, text in files(plan, machine.planned).items():
        await machine.write_text(f"{FOLDER}/{name}", text)
    await machine.run(_START_OR_TELL)


# At SIGHUP dnsmasq(8) reads again all files but its configuration, before the next question.
# It answers as soon as the command that started it has ended. As a daemon it insists on dropping
# groups, which a user namespace of an ordinary user forbids: there it stays in the foreground, and
# tells when it listens.
_START_OR_TELL = f"""\
cd {FOLDER} || exit
pid=$(cat pid 2>&-) && [ "$(cat /proc/$pid/comm 2>&-)" = dnsmasq ] && exec kill -HUP $pid
grep -qx deny /proc/self/setgroups || exec dnsmasq --conf-file={FOLDER}/conf
rm -f told && mkfifo told || exit
dnsmasq --no-daemon --conf-file={FOLDER}/conf </dev/null >/dev/null 2>told &
echo $! >pid
while read -r line; do
    case $line in *started,*) exit 0 ;; esac
    echo "$line" >&2
done <told
exit 1
"""


# Plan -> what dnsmasq reads


def files(plan: Plan, machine: PlannedMachine) -> Mapping[str, str]:
    """What dnsmasq reads in this machine: file name to text.

    :raises LayoutError: a role names a network that there is not.
    """
    dhcp, dns = _roles(machine)
    if dhcp is not None:
        own = [link.network for link in machine.links]
        check_named(plan, machine, "DhcpServer(networks=...)", dhcp.networks, own)
    if dns is not None:
        check_named(plan, machine, "DnsServer(networks=...)", dns.networks, plan.networks)
    texts = {"conf": _lines(_configuration(plan, machine, dhcp, dns))}
    if dns is not None:
        texts["hosts"] = _lines(_host_records(plan, dns))
    if dhcp is not None:
        texts["reservations"] = _lines(_reservations(plan, machine, dhcp))
        texts["options"] = _lines(_options(plan, machine, dhcp, dns))
    return texts


def _lines(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _configuration(
    plan: Plan, machine: PlannedMachine, dhcp: DhcpServer | None, dns: DnsServer | None
) -> Iterator[str]:
    # neither the host's settings nor its users: a machine may be in a user namespace
    yield from ("user=root", "group=root", f"pid-file={FOLDER}/pid")
    yield "log-facility=/proc/1/fd/1"  # the machine's log
    yield "bind-interfaces"
    yield from (f"interface={link.interface}" for link in machine.links)
    yield from ("no-resolv", "no-hosts", "no-poll")
    if dns is None:
        yield "port=0"
    else:
        yield f"addn-hosts={FOLDER}/hosts"
        if dns.domain:
            yield f"domain={dns.domain}"
        upstream = _several(dns.upstream)
        if upstream:
            # what belongs to the layout is never asked elsewhere
            yield from ("domain-needed", "bogus-priv")
            yield from (f"local=/{zone}/" for zone in (dns.domain, *_names(plan)) if zone)
            yield from (f"server={address}" for address in upstream)
        else:
            yield "local=/#/"
    if dhcp is not None:
        yield from ("dhcp-authoritative", "no-ping")
        yield f"dhcp-leasefile={FOLDER}/leases"
        yield f"dhcp-hostsfile={FOLDER}/reservations"
        yield f"dhcp-optsfile={FOLDER}/options"
        for link, network in _served(plan, machine, dhcp):
            yield from _ranges(plan, link, network, dhcp)


def _ranges(
    plan: Plan, link: PlannedLink, network: PlannedNetwork, dhcp: DhcpServer
) -> Iterator[str]:
    """What it gives on one network: ranges, or no more than what is reserved."""
    for subnet in network.subnets:
        if not _answers(plan, subnet, network, link, dhcp):
            continue
        prefix = subnet.network
        begin = f"dhcp-range=set:{_tag(network.name)},"
        modes, end = "", f",{prefix.netmask},{dhcp.lease_s}"
        if prefix.version == 6:
            modes, end = ",slaac" * subnet.slaac, f",{prefix.prefixlen},{dhcp.lease_s}"
        for low, high in subnet.dhcp_ranges:
            yield f"{begin}{low},{high}{modes}{end}"
        if not subnet.dhcp_ranges:
            first = prefix.network_address
            if subnet.slaac and not _asking(plan, network, 6):
                yield f"{begin}{first},ra-only{end}"
            else:
                yield f"{begin}{first},static{modes}{end}"
        if prefix.version == 6:
            own = {address.ip for address in link.addresses}
            lifetime_s = _ROUTER_S if subnet.gateway in own else 0  # else it is no way out
            mtu = f"mtu:{network.mtu}," if network.mtu else ""
            yield f"ra-param={link.interface},{mtu}{_ADVERTISED_S},{lifetime_s}"
            yield "enable-ra"


def _options(
    plan: Plan, machine: PlannedMachine, dhcp: DhcpServer, dns: DnsServer | None
) -> Iterator[str]:
    """What clients are told; an option without a value says nothing instead of a default."""
    for link, network in _served(plan, machine, dhcp):
        for subnet in network.subnets:
            version = subnet.network.version
            itself = [a.ip for a in link.addresses if a.version == version] if dns else []
            tags = f"tag:{_tag(network.name)},tag:!own{version}"
            yield from _told(version, tags, subnet, itself, dns, network.mtu)
            for name, asking, own in _asking(plan, network, version):
                if not _as_its_network(own, subnet):
                    tags = f"tag:{_tag(name, asking.interface)}"
                    yield from _told(version, tags, own, itself, dns, asking.mtu)


def _told(
    version: int,
    tags: str,
    what: PlannedSubnet | PlannedAddressing,
    itself: Sequence[Address],
    dns: DnsServer | None,
    mtu: int | None,
) -> Iterator[str]:
    servers = what.dns_servers or itself[:1]
    domains = what.domains or ((dns.domain,) if dns and dns.domain else ())
    names = "".join(f",{name}" for name in domains)
    if version == 6:  # routers tell of themselves, see RFC 4861
        yield f"{tags},option6:dns-server" + "".join(f",[{address}]" for address in servers)
        yield f"{tags},option6:domain-search{names}"
        return
    yield f"{tags},option:router" + (f",{what.gateway}" if what.gateway is not None else "")
    yield f"{tags},option:dns-server" + "".join(f",{address}" for address in servers)
    if domains:
        yield f"{tags},option:domain-name,{domains[0]}"
        yield f"{tags},option:domain-search{names}"
    if mtu:
        yield f"{tags},option:mtu,{mtu}"


def _reservations(plan: Plan, machine: PlannedMachine, dhcp: DhcpServer) -> Iterator[str]:
    """One line per link that asks, with the addresses that the layout says."""
    for _, network in _served(plan, machine, dhcp):
        tags: dict[str, list[str]] = {}
        addresses: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        for subnet in network.subnets:
            version = subnet.network.version
            for name, link, own in _asking(plan, network, version):
                names[link.mac] = plan.machines[name].hostname
                if not _as_its_network(own, subnet):
                    tagged = [f"set:own{version}", f"set:{_tag(name, link.interface)}"]
                    tags.setdefault(link.mac, []).extend(tagged)
                if own.address is not None:
                    ip = str(own.address.ip) if version == 4 else f"[{own.address.ip}]"
                    addresses.setdefault(link.mac, []).append(ip)
        for mac, name in names.items():
            # by DHCPv6 a client is known by its DUID: that of the hardware address (RFC 8415, 11.4)
            words = [mac, f"id:00:03:00:01:{mac}", *dict.fromkeys(tags.get(mac, ()))]
            yield ",".join([*words, *addresses.get(mac, ()), name])


def _host_records(plan: Plan, dns: DnsServer) -> Iterator[str]:
    """Names of all addresses; the first name in a line is also what the address is called."""
    for name, machine in plan.machines.items():
        names = dict.fromkeys((machine.hostname, name))
        leading = True  # the machine is known by its first link that is known at all
        for link in machine.links:
            if link.kind == "external":  # nobody who asks gets there
                continue
            own = [f"{link.interface}.{one}" for one in names]
            addresses = _known_addresses(link, dns)
            for primary, address in addresses:
                leaders = [link.dns_name] if link.dns_name else []
                if primary and leading:
                    leaders += names
                yield " ".join([address, *_with_domain([*leaders, *own], dns.domain)])
            leading = leading and not addresses
        for loopback in () if dns.networks else machine.loopback:
            own = [*(names if leading else ()), *(f"lo.{one}" for one in names)]
            yield " ".join([str(loopback), *_with_domain(own, dns.domain)])


def _known_addresses(link: PlannedLink, dns: DnsServer) -> list[tuple[bool, str]]:
    """(is it the primary one of its family, address) of all that this server tells of a link."""
    addresses: list[tuple[bool, str]] = []
    inside = not dns.networks or link.network in dns.networks
    for own in link.addressings:
        address = own.address.ip if own.address is not None else None
        further = [(one.address.ip, one.public) for one in own.secondary_addresses]
        if inside:
            addresses += [(True, str(address))] if address is not None else []
            addresses += [(False, str(ip)) for ip, _ in further]
        else:
            addresses += [(True, str(own.public_address))] if own.public_address is not None else []
            addresses += [(False, str(public)) for _, public in further if public is not None]
    return addresses


def _with_domain(names: Sequence[str], domain: str | None) -> Iterator[str]:
    """All names, each in full before its short form."""
    for name in dict.fromkeys(names):
        if domain and not (name == domain or name.endswith(f".{domain}")):
            yield f"{name}.{domain}"
        yield name


def _names(plan: Plan) -> Iterator[str]:
    for name, machine in plan.machines.items():
        yield from dict.fromkeys((machine.hostname, name))


def _served(
    plan: Plan, machine: PlannedMachine, dhcp: DhcpServer
) -> Iterator[tuple[PlannedLink, PlannedNetwork]]:
    """The machine's links to networks on which it serves."""
    for link in machine.links:
        network = plan.networks.get(link.network)
        if network is not None and any(
            _answers(plan, subnet, network, link, dhcp) for subnet in network.subnets
        ):
            yield link, network


def _answers(
    plan: Plan,
    subnet: PlannedSubnet,
    network: PlannedNetwork,
    link: PlannedLink,
    dhcp: DhcpServer,
) -> bool:
    """Whether it serves one family of addresses on a network, where it needs its own address."""
    version = subnet.network.version
    if not any(
        address.version == version for own in link.addressings for address in own.configured
    ):
        return False
    if dhcp.networks:
        return network.name in dhcp.networks
    return bool(subnet.dhcp_ranges or subnet.slaac or _asking(plan, network, version))


def _asking(
    plan: Plan, network: PlannedNetwork, version: int
) -> list[tuple[str, PlannedLink, PlannedAddressing]]:
    """Machine, link and addressing of all that asks on a network, in one family of addresses."""
    return [
        (machine.name, link, own)
        for machine in plan.machines.values()
        for link in machine.links
        if link.network == network.name
        for own in link.addressings
        if own.dhcp and own.network.version == version
    ]


def _as_its_network(own: PlannedAddressing, subnet: PlannedSubnet) -> bool:
    return (own.gateway, own.dns_servers, own.domains) == (
        subnet.gateway,
        subnet.dns_servers,
        subnet.domains,
    )


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value


def _tag(*names: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", "-".join(names))
