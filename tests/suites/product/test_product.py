def test_till_buys_at_the_new_address(shop, production):
    assert shop.web.address() == "192.168.1.80"
    order = '{"till": "till-03", "product": 1, "quantity": 1}'
    sale = shop["till-03"].run(["curl", "-sS", "--json", order, "http://web/sales"])
    assert '"total_cents": 137' in sale.stdout
