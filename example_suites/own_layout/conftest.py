from pytest_carthage import Layout, Machine, Network, port, stage


class Branch(Layout):
    """A branch office behind a router, and a server in the wide world."""

    office = Network("10.0.0.0/24")
    world = Network("198.51.100.0/24")

    router = Machine(
        links={"lan0": office.at(".1"), "wan0": world.at(".1")},
        masquerade="wan0",
    )
    desk = Machine(links={"eth0": office.at("auto", gateway=".1")})
    server = Machine(
        links={"eth0": world.at(".80")},
        command="python3 -u -m http.server --directory /tmp 80",
        wait_for=port(80),
    )


branch = Branch.fixture()


@stage
async def published(branch):
    await branch.server.aio.write_text("/tmp/hello.txt", "Hello, branch!\n")
