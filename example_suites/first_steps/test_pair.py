def test_machines_ping_each_other(pair):
    assert pair.left.ping("right") < 1.0  # seconds
    assert pair.right.ping("left") < 1.0


def test_right_knows_left_by_name(pair):
    assert pair.right.host.addr("left").ipv4_addresses == ["10.0.0.1"]
