from ipaddress import ip_address, ip_network

from pytest_carthage.roles import converged, vtysh

OFFICE_A, OFFICE_B = ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")


def test_sites_reach_each_other_by_the_north(sites, routed):
    assert sites.desk.ping("server") < 1
    route = sites.a1.network.route_to("10.2.0.10")
    assert (route.interface, route.protocol) == ("north", "unspecified")
    learned = {one.destination: one.protocol for one in sites.a1.network.routes()}
    assert learned[OFFICE_B] == "bgp"


def test_frr_answers_in_values(sites, routed):
    told = vtysh(sites.a2, "show ip route json")
    (best,) = [one for one in told["10.1.0.0/24"] if one.get("selected")]
    assert best["protocol"] == "ospf"
    peers = vtysh(sites.a1, "show bgp ipv4 unicast summary json")["peers"]
    assert {name: peer["state"] for name, peer in peers.items()} == {
        "10.255.1.2": "Established",
        "203.0.113.2": "Established",
    }


def test_router_has_the_loopback_address_of_its_file(sites, routed):
    loopback = [one.ip for one in sites.b2.network.addresses("lo") if one.scope == "global"]
    assert loopback == [ip_address("10.255.2.2")]
    sites.b1.ping("10.255.2.2")


def test_addresses_of_the_lines_are_those_of_the_files(sites, routed):
    assert sites.a1.address("north") == "203.0.113.1"
    with sites.capture("south", "tcp port 179") as packets:
        vtysh(sites.a2, "clear bgp 203.0.113.6 soft in")
        seen = packets.wait_for(lambda packet: packet.source == "a2")
    assert seen.destination == "b2"


def test_south_takes_over_when_the_north_breaks(sites, routed):
    with sites.a1.link("north").down():
        for router in (sites.a1, sites.b1, sites.a2, sites.b2):
            router.wait_for(converged())
        assert sites.a1.network.route_to("10.2.0.10").interface == "core"
        assert sites.desk.ping("server") < 1
    for router in (sites.a1, sites.b1):
        router.wait_for(converged())
    assert sites.a1.network.route_to("10.2.0.10").interface == "north"
