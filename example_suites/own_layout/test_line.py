import pytest


def test_slow_line_is_slow_both_ways(branch):
    with branch.router.link("wan0").impair(delay_ms=20):
        assert branch.desk.ping("server") > 0.040  # seconds
    assert branch.desk.ping("server") < 0.040


def test_cut_is_noticed_and_heals(branch):
    with branch.partition({branch.desk}, {branch.server}), pytest.raises(TimeoutError):
        branch.desk.connect(80, "server", timeout_s=0.5)
    branch.desk.connect(80, "server").close()


def test_router_hides_the_desk(branch):
    with branch.router.link("wan0").capture("tcp port 80") as packets:
        branch.desk.connect(80, "server").close()
    assert {packet.source for packet in packets} == {"router", "server"}


def test_nothing_leaves_and_nothing_enters(branch):
    branch.assert_sealed()
