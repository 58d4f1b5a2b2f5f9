"""A site's baseline, as production has it, on a server that is a system container."""

import pytest

pytestmark = pytest.mark.usefixtures("baseline")


def test_baseline_is_all_of_a_server(baseline):
    names = {task.name for task in baseline.tasks if task.host == "server"}
    assert len(names) >= 60


def test_second_time_changes_nothing(site):
    again = site.ansible("baseline.yml", limit="server")
    assert [task.name for task in again.tasks if task.status == "changed"] == []
    assert not again.changed


def test_server_has_rebooted_and_kept_what_was_set(site):
    server = site.server
    assert server.run("hostname -f").stdout == "server.example.test\n"
    assert "noexec" in server.run("findmnt -no OPTIONS /tmp").stdout
    assert len(server.run("journalctl --list-boots -q").lines) == 2
    assert server.run("systemctl is-enabled sleep.target", check=False).stdout == "masked\n"


def test_what_is_the_hosts_was_set_without_effect(site):
    assert site.server.inert_settings()["vm.swappiness"] == "10"


def test_packet_filter_lets_in_what_is_served_and_nothing_else(site):
    assert site.client.run("curl -s http://10.0.0.1:8080/").stdout == "server\n"
    site.server.run("systemd-run --quiet --unit=stray python3 -m http.server 9000")
    assert not site.client.run("curl -sm1 http://10.0.0.1:9000/", check=False).ok


def test_nothing_has_failed(site):
    assert site.server.run("systemctl --failed --no-legend --plain").stdout == ""
