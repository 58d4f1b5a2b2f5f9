from urllib.request import urlopen

import pytest


def fetch(machine, path):
    """What the machine gets from the server; the client is here, its connection starts there."""
    with machine.forward(80, "server") as port, urlopen(f"http://127.0.0.1:{port}{path}") as page:
        return page.read().decode()


def test_page_reaches_the_desk(branch, published):
    assert fetch(branch.desk, "/hello.txt") == "Hello, branch!\n"


def test_server_sees_the_router_only(branch, published):
    fetch(branch.desk, "/hello.txt")
    assert "198.51.100.1 " in branch.server.logs()
    assert "10.0.0." not in branch.server.logs()


def test_server_stops_and_starts(branch):
    branch.server.stop()
    with pytest.raises(OSError, match=r"198\.51\.100\.80"):
        branch.desk.connect(80, "server", timeout_s=0.5)
    branch.server.start()
    branch.desk.connect(80, "server").close()
