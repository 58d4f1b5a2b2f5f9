from pytest_carthage import Forward, Layout, Machine, Network, V4Config, command, port, stage
from pytest_carthage.roles import DhcpServer, DnsServer, OspfRouter, Router

# What everybody has at home. Both sites have it: that is what address translation is for.
HOME = V4Config(
    network="10.0.0.0/24",
    gateway="10.0.0.1",
    dhcp_ranges=[("10.0.0.100", "10.0.0.199")],
)
NAME_SERVER = "192.0.2.66"


class Internet(Layout):
    """Two sites with the same private addresses, and a small internet between them."""

    # The sites. A network is a cable of its own: equal addresses on two of them never meet.
    west = Network(v4=HOME)
    east = Network(v4=HOME)

    # The internet, with public addresses. A wire has two ends, and both notice when it breaks.
    west_line = Network("198.51.100.0/29")
    east_line = Network("203.0.113.0/29")
    fibre = Network("192.0.2.0/30", kind="point-to-point")
    copper = Network("192.0.2.4/30", kind="point-to-point")
    hosting = Network("192.0.2.64/26")

    # A network that goes on in another layout, see Annex.
    stretch = Network("172.16.0.0/24")

    # Two ways lead from one core router to the other; OSPF takes the cheap one while it is there.
    core_w = Machine(
        links={
            "west0": west_line.at(".1"),
            "fibre0": fibre.at(".1"),
            "copper0": copper.at(".5"),
        },
        roles=[OspfRouter(costs={"copper0": 100})],
    )
    core_e = Machine(
        links={
            "east0": east_line.at(".1"),
            "fibre0": fibre.at(".2"),
            "copper0": copper.at(".6"),
            "host0": hosting.at(".65"),
        },
        roles=[OspfRouter(costs={"copper0": 100})],
    )

    # The name server of the internet knows public addresses only.
    ns = Machine(
        links={"eth0": hosting.at(".66", gateway=".65")},
        roles=[DnsServer(domain="example", networks=("hosting",))],
    )

    # A site's router: hides the site behind its one public address, lends addresses, answers for
    # the site's names and asks the internet for all others. What arrives at port 80 is for www.
    west_gw = Machine(
        links={
            "lan0": west.at(".1"),
            "wan0": west_line.at(".2", gateway=".1"),
        },
        roles=[
            Router(masquerade="wan0", forwards=[Forward("wan0", 80, to="west_web")]),
            DhcpServer(),
            DnsServer(domain="west.example", networks=("west",), upstream=NAME_SERVER),
        ],
    )
    east_gw = Machine(
        links={
            "lan0": east.at(".1"),
            "wan0": east_line.at(".2", gateway=".1"),
        },
        roles=[
            Router(masquerade="wan0"),
            DhcpServer(),
            DnsServer(domain="east.example", networks=("east",), upstream=NAME_SERVER),
        ],
    )

    # They ask for their addresses: the server has a fixed one reserved, the others take any.
    west_web = Machine(
        links={
            "eth0": west.at(".80", dhcp=True, dns_name="www", public_address="198.51.100.2"),
            "stretch0": stretch.at(".1"),
        },
        command="python3 -u -m http.server --directory /srv 80",
        wait_for=port(80),
    )
    west_pc = Machine(links={"eth0": west.at(dhcp=True)})
    east_pc = Machine(links={"eth0": east.at(dhcp=True)})


class Annex(Layout):
    """Another data centre, which shares one network with the west site."""

    stretch = Network("172.16.0.0/24")
    backup = Machine(links={"eth0": stretch.at(".2")})


internet = Internet.fixture()
annex = Annex.fixture()


@stage
async def converged(internet):
    """The core routers have found each other: this takes OSPF some seven seconds."""
    await internet.core_w.aio.wait_for(command("ip route get 203.0.113.2"))
    await internet.core_e.aio.wait_for(command("ip route get 198.51.100.2"))
