from pytest_carthage import Image, Layout, Machine, Network, stage
from pytest_carthage.roles import FrrRouter, converged


class TwoSites(Layout):
    """Two sites, each an autonomous system of two routers, and two lines between them."""

    # A site's office, and the cable between its routers. Both notice when a cable breaks.
    office_a = Network("10.1.0.0/24")
    core_a = Network("10.1.255.0/30", kind="point-to-point")
    office_b = Network("10.2.0.0/24")
    core_b = Network("10.2.255.0/30", kind="point-to-point")

    # The lines that two providers have laid.
    north = Network("203.0.113.0/30", kind="point-to-point")
    south = Network("203.0.113.4/30", kind="point-to-point")

    # Production's own files, as they are: frr/a1.conf is for the machine a1, and so on. They set
    # the addresses of the two lines, which the layout only expects.
    debian = Image.debian("bookworm").with_packages("systemd-sysv")
    router = FrrRouter(config="frr")

    a1 = Machine(
        debian,
        init="systemd",
        roles=[router],
        links={
            "office": office_a.at(".1"),
            "core": core_a.at(".1"),
            "north": north.at(None, expects=".1"),
        },
    )
    a2 = Machine(
        debian,
        init="systemd",
        roles=[router],
        links={"core": core_a.at(".2"), "south": south.at(None, expects=".5")},
    )
    b1 = Machine(
        debian,
        init="systemd",
        roles=[router],
        links={
            "office": office_b.at(".1"),
            "core": core_b.at(".1"),
            "north": north.at(None, expects=".2"),
        },
    )
    b2 = Machine(
        debian,
        init="systemd",
        roles=[router],
        links={"core": core_b.at(".2"), "south": south.at(None, expects=".6")},
    )

    desk = Machine(links={"eth0": office_a.at(".10", gateway=".1")})
    server = Machine(links={"eth0": office_b.at(".10", gateway=".1")})


sites = TwoSites.fixture()


@stage
def routed(sites):
    """All routers know what their neighbours know."""
    for router in (sites.a1, sites.a2, sites.b1, sites.b2):
        router.wait_for(converged())
