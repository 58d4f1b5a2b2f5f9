"""What the image says and has. Nothing is booted for these."""


def test_layers_are_the_tasks_in_their_order(quotes):
    base, *rest = quotes.history
    assert base.command == "debian bookworm (minbase)"
    assert [layer.title for layer in rest] == [
        "install dbus, ed, netcat-openbsd, systemd-sysv",
        "install python3",
        "copy the program",
        "purge what is unwanted",
        "install the unit",
    ]


def test_history_tells_whose_task_it_was(quotes):
    last = quotes.history[-1]
    assert (last.role, last.command) == ("Server", "Server: install the unit")


def test_roles_and_their_parameters_can_be_asked(quotes):
    (server,) = quotes.roles
    assert server.port == 8000
    assert server.offers == ("quotes",)


def test_settings_are_those_of_a_server(quotes):
    assert quotes.tag == "localhost/quotes:1"
    assert quotes.command == ("/sbin/init",)
    assert quotes.env["LANG"] == "C.UTF-8"
    assert quotes.labels["org.opencontainers.image.title"] == "Quotes"
    assert "http://localhost:8000" in quotes.healthcheck.command[-1]


def test_packages_are_those_that_are_wanted(quotes):
    assert {"python3", "systemd-sysv"} <= set(quotes.packages)
    assert not {"e2fsprogs", "ed", "netcat-openbsd"} & set(quotes.packages)


def test_files_are_in_place(quotes):
    unit = quotes.host.file("/etc/systemd/system/quotes.service")
    assert unit.contains("quotes.py 8000")
    assert quotes.host.file("/opt/quotes/quotes.py").mode == 0o644
    assert quotes.exists("/etc/systemd/system/multi-user.target.wants/quotes.service")
    assert not quotes.exists("/usr/bin/ed")


def test_commands_run_in_a_copy_that_is_thrown_away(quotes):
    assert quotes.run("python3 -c 'print(6 * 7)'").stdout == "42\n"


def test_own_layers_are_small(quotes):
    copied, _purged, unit = quotes.layers[-3:]
    assert copied.meta.size < 50_000
    assert unit.meta.size < 50_000
    assert quotes.size < 400e6
