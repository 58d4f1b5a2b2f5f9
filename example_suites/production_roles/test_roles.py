"""Nine roles as production has them, apt lines included, each on a server of its own."""

import pytest

pytestmark = pytest.mark.usefixtures("converged")

#: what shows from outside, or within, that a server does what its role is for
WORKS = {
    "nginx": ("client", "curl -sf http://10.0.0.10/ | grep -x shop.example.test"),
    "postgresql": ("postgresql", "PGPASSWORD=secret psql -h 10.0.0.11 -U shop -c 'select 1' shop"),
    "redis": (
        "client",
        "exec 3<>/dev/tcp/10.0.0.12/6379; echo PING >&3; read -r l <&3; [[ $l = +PONG* ]]",
    ),
    "apache": ("client", "curl -sfI http://10.0.0.13:8080/ | grep 'X-Served-By: apache'"),
    "haproxy": ("client", "curl -sf http://10.0.0.14/; [ $? = 22 ]"),
    "mariadb": ("mariadb", "mariadb -h 10.0.0.15 -u shop -psecret -e 'select 1' shop"),
    "ntp": ("ntp", "chronyc -n tracking && date +%Z | grep -E 'CES?T'"),
    "firewall": ("firewall", "iptables -S | grep -x -- '-P INPUT DROP'"),
    "security": ("security", "fail2ban-client status sshd"),
}


@pytest.mark.parametrize("role", WORKS)
def test_server_does_what_its_role_is_for(site, role):
    if role not in site:
        pytest.skip("this role is not wanted; try: ROLES=all pytest")
    where, command = WORKS[role]
    site[where].run(["bash", "-c", command])
    assert site[role].run("systemctl --failed --no-legend --plain").stdout == ""


def test_second_time_changes_nothing(site):
    again = site.ansible("site.yml", forks=len(WORKS))
    assert [(task.host, task.name) for task in again.tasks if task.status == "changed"] == []


def test_packages_came_from_the_mirror_alone(site):
    assert site.nginx.run("curl -sm2 http://deb.debian.org/", check=False).status in (6, 7)
    site.assert_sealed()
