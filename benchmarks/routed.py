"""A hundred machines on ten networks, ten of them routers that masquerade, declared to ready.

Each network has nine machines and a router, whose other link is on the next network: a ring.
Against: ``ip -batch`` and one ``nft`` per router making the same namespaces, links, addresses,
routes and rules.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.harness import Figure, in_turns, main
from benchmarks.layouts import live
from benchmarks.sealed import sealed
from pytest_carthage import Layout, Machine, Network

NETWORKS, HOSTS = 10, 9


def ring() -> type[Layout]:
    """The layout, declared in a loop."""
    networks = {f"net{n}": Network(f"10.{n}.0.0/24") for n in range(NETWORKS)}
    members: dict[str, object] = dict(networks)
    for n in range(NETWORKS):
        own, following = networks[f"net{n}"], networks[f"net{(n + 1) % NETWORKS}"]
        members[f"gw{n}"] = Machine(
            links={"lan0": own.at(".1"), "wan0": following.at(".254")}, masquerade="wan0"
        )
        for host in range(HOSTS):
            members[f"m{n}-{host}"] = Machine(links={"eth0": own.at("auto", gateway=".1")})
    return Layout.of("Ring", members)


def declared_to_ready() -> float:
    """Seconds from before the class exists until every machine can be used."""
    begin = time.perf_counter()
    layout = ring()
    with live(layout) as environment:
        taken = time.perf_counter() - begin
        for n in range(NETWORKS):
            far = environment[f"m{(n + 1) % NETWORKS}-0"].address()
            if environment[f"m{n}-{HOSTS - 1}"].ping(far) > 0.5:
                raise RuntimeError("declared ready, but slow to answer")
    return taken


def script() -> str:
    """A shell script that makes the same."""
    machines: dict[str, list[tuple[str, int, str]]] = {}
    for n in range(NETWORKS):
        following = (n + 1) % NETWORKS
        machines[f"gw{n}"] = [
            ("lan0", n, f"10.{n}.0.1/24"),
            ("wan0", following, f"10.{following}.0.254/24"),
        ]
        for host in range(HOSTS):
            machines[f"m{n}-{host}"] = [("eth0", n, f"10.{n}.0.{host + 2}/24")]
    make = "\n".join(f"netns add {name}" for name in machines)
    links = [f"link add net{n} type bridge\nlink set net{n} up" for n in range(NETWORKS)]
    inside = []
    for name, own in machines.items():
        lines = ["link set lo up"]
        for number, (interface, network, address) in enumerate(own):
            port = f"{name}.{number}"
            links.append(f"link add {port} type veth peer name {interface} netns {name}")
            links.append(f"link set {port} master net{network} up")
            lines += [f"address add {address} dev {interface}", f"link set {interface} up"]
        if name.startswith("m"):
            lines.append(f"route add default via 10.{own[0][1]}.0.1")
        inside.append(f"ip -n {name} -batch - <<'END'\n" + "\n".join(lines) + "\nEND")
        if name.startswith("gw"):
            rules = (
                "add table inet nat\n"
                "add chain inet nat out { type nat hook postrouting priority 100; }\n"
                'add rule inet nat out oifname "wan0" masquerade'
            )
            inside.append(
                f"ip netns exec {name} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; nft -f -'"
                f" <<'END'\n{rules}\nEND"
            )
    return "\n".join(
        [
            f"ip -batch - <<'END'\n{make}\nEND",
            "ip -batch - <<'END'\n" + "\n".join(links) + "\nEND",
            *inside,
        ]
    )


def with_ip() -> float:
    """Seconds that the script takes, in namespaces that end with it."""
    with sealed() as inside:
        return inside.seconds(["sh", "-e"], input=script())


def take(rounds: int) -> Sequence[Figure]:
    """Take the figure."""
    ours, plain = in_turns(rounds, declared_to_ready, with_ip)
    return [
        Figure(
            what="100 machines, 10 networks, 10 masquerading routers, declared to ready",
            unit="s",
            ours=ours,
            other=plain,
            versus="ip and nft",
            at_most=2,
        )
    ]


if __name__ == "__main__":
    main(take)
