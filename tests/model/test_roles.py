from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

from pytest_carthage import (
    Image,
    Layout,
    LayoutError,
    Machine,
    Network,
    NetworkLink,
    Role,
    filesystem_task,
    machine_task,
)
from pytest_carthage.handles.capability import CAPABILITIES
from pytest_carthage.planning import extend_plan, make_plan
from pytest_carthage.roles import DhcpServer, DnsServer, Nginx, OspfRouter, Postgres, Router

if TYPE_CHECKING:
    from pytest_carthage.live.machines.machine import AsyncMachine


class Recorder:
    """Stands for a machine; keeps what was run in it."""

    def __init__(self) -> None:
        self.ran: list[tuple[Any, Any]] = []

    async def run(self, command: Any, **options: Any) -> None:
        self.ran.append((command, options))


def configured(role: Role) -> list[tuple[Any, Any]]:
    machine = Recorder()
    for task in role.tasks("machine"):
        asyncio.run(task(role, cast("AsyncMachine", machine)))
    return machine.ran


def test_role_asks_for_nothing_by_default() -> None:
    role = Role()
    assert (role.packages, role.forward, role.masquerade, role.groups) == ((), False, (), ())
    assert configured(role) == []


def test_role_of_a_user_overrides_with_attribute_field_and_property() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Cache(Role):
        groups = ("caches",)
        forward: bool = True
        size: int = 1

        @property
        def packages(self) -> list[str]:
            return ["redis-server"] if self.size > 1 else []

    assert (Cache().groups, Cache().forward) == (("caches",), True)
    assert Cache(size=2).packages == ["redis-server"]
    with pytest.raises(FrozenInstanceError):
        Cache().size = 3  # type: ignore[misc]


def test_router_forwards_and_needs_nothing() -> None:
    router = Router(masquerade="dmz0")
    assert (router.forward, router.masquerade, router.packages) == (True, "dmz0", ())
    assert configured(router) == []


def test_nginx_is_started() -> None:
    assert Nginx().packages == ("nginx",)
    assert configured(Nginx()) == [(["service", "nginx", "start"], {})]


def test_postgres_without_password_trusts_its_networks() -> None:
    assert Postgres().packages == ("postgresql",)
    commands = [command for command, _ in configured(Postgres())]
    assert "host all all samenet trust" in commands[0]
    assert commands[1] == ["service", "postgresql", "restart"]
    assert len(commands) == 3


def test_postgres_with_password_and_databases_creates_them() -> None:
    ran = configured(Postgres(password="it's", databases=("shop", "a b")))
    assert "host all all samenet scram-sha-256" in ran[0][0]
    assert ran[3][1] == {
        "user": "postgres",
        "input": "ALTER USER postgres PASSWORD 'it''s';",
        "secret": True,
    }
    assert [command.rpartition("|| ")[2] for command, _ in ran[4:]] == [
        "createdb -- shop",
        "createdb -- 'a b'",
    ]


def test_postgres_writes_its_settings_once(tmp_path: Path) -> None:
    folder = tmp_path / "15" / "main"
    folder.mkdir(parents=True)
    rules = folder / "pg_hba.conf"
    rules.write_text("local all all peer\n")
    script = configured(Postgres())[0][0].replace("/etc/postgresql", str(tmp_path))
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", script], check=True, timeout=10)
    assert rules.read_text() == "local all all peer\nhost all all samenet trust\n"
    assert (folder / "conf.d" / "carthage.conf").read_text() == "listen_addresses = '*'\n"


def test_ready_roles_say_what_they_offer() -> None:
    roles: list[Role] = [Postgres(), Nginx(), DnsServer(), DhcpServer(), Router(), OspfRouter()]
    offered = [tuple(role.offers) for role in roles]
    assert offered == [("postgres",), ("http",), ("dns",), ("dhcp",), (), ()]


def test_machine_tasks_have_titles_for_people() -> None:
    titles = [task.title for role in (Nginx(), Postgres(), DnsServer()) for task in role.tasks()]
    assert titles == [
        "start nginx",
        "start PostgreSQL for the machine's networks",
        "set the superuser's password, and create databases",
        "start dnsmasq",
    ]


# parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache(Role):
    packages = ("redis-server",)
    offers = ("cache",)

    port: int = 6379
    share: float = 0.5
    name: str | None = None
    peers: tuple[str, ...] = ()
    pair: tuple[int, str] = (1, "a")
    folder: Path | None = None
    mode: Literal["memory", "disk"] = "memory"
    more: Mapping[str, int] | None = None
    unknown: NotImported = None  # type: ignore[name-defined]  # noqa: F821
    on: bool = False

    @filesystem_task("write the configuration")
    def write(self, fs: Any) -> None: ...

    @machine_task("start")
    def start(self, machine: Any) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"port": "80"}, "port='80' is str, expected is int; declared at {place}; try: port=80"),
        ({"port": True}, "port=True is bool, expected is int"),
        ({"port": None}, "port=None is None, expected is int"),
        ({"share": "x"}, "share='x' is str, expected is float"),
        ({"name": 5}, "name=5 is int, expected is str or None; declared at {place}; try: name='5'"),
        ({"peers": "a"}, "peers='a' is str, expected is a tuple of str; declared at {place};"),
        ({"peers": "a"}, "; try: peers=('a',)"),
        ({"peers": ("a", 1)}, "peers=('a', 1) is tuple, expected is a tuple of str"),
        ({"pair": ("a", 1)}, "pair=('a', 1) is tuple, expected is a tuple of int, str"),
        ({"pair": (1,)}, "pair=(1,) is tuple, expected is a tuple of int, str"),
        ({"folder": "/srv"}, "folder='/srv' is str, expected is Path or None; declared at"),
        ({"folder": "/srv"}, "; try: folder=Path('/srv')"),
        ({"mode": "ram"}, "mode='ram' is str, expected is one of 'memory', 'disk'; declared at"),
        ({"mode": "ram"}, "; try: mode='memory'"),
        ({"on": 1}, "on=1 is int, expected is bool"),
    ],
)
def test_parameter_of_a_wrong_type_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(LayoutError) as caught:
        Cache(**wrong)
    line = caught.traceback[0].lineno + 1
    assert str(caught.value).startswith("role Cache: parameter ")
    assert told.format(place=f"{__file__}:{line}") in str(caught.value)
    with pytest.raises(LayoutError, match="role Cache: parameter "):
        Cache().but(**wrong)


def test_parameters_that_fit_are_taken() -> None:
    Cache(port=1, share=1, name="a", peers=("a", "b"), pair=(2, "b"), folder=Path("/srv"))
    Cache(mode="disk", more={"a": 1}, unknown=object(), on=True)
    Cache(peers=["a"])  # type: ignore[arg-type]
    assert Cache(port=7).but(on=True) == Cache(port=7, on=True)
    assert copy.deepcopy(Cache(port=7)) == pickle.loads(pickle.dumps(Cache(port=7)))


def test_unknown_parameter_is_refused_with_a_similar_one() -> None:
    with pytest.raises(
        LayoutError, match=r"role Cache: it has no parameter 'prot';.*try: one of port"
    ):
        Cache(prot=1)  # type: ignore[call-arg]
    with pytest.raises(LayoutError, match=r"it has no parameter 'prot'"):
        Cache().but(prot=1)


def test_role_that_is_no_dataclass_takes_no_parameters() -> None:
    class Plain(Role):
        port: int = 1

    with pytest.raises(
        LayoutError,
        match=r"role Plain: it takes no parameters, and got port=2;.*"
        r"try: @dataclass\(frozen=True, slots=True, kw_only=True\) above class Plain",
    ):
        Plain(port=2)  # type: ignore[call-arg]
    with pytest.raises(LayoutError, match="it takes no parameters, and got port=2"):
        Plain().but(port=2)
    assert Plain().port == 1


def test_subclass_changes_a_default() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Big(Cache):
        port = 7000
        size: int = 1

    big: Any = Big
    assert (big().port, big(port=2).port, big(size=3).size) == (7000, 2, 3)
    with pytest.raises(LayoutError, match=r"role Big: parameter port='1' is str, expected is int"):
        big(port="1")


def test_default_of_a_wrong_type_is_refused() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Wrong(Role):
        port: int = "80"  # type: ignore[assignment]

    with pytest.raises(LayoutError, match=r"role Wrong: parameter port='80' is str"):
        Wrong()


def test_subclass_that_is_no_dataclass_cannot_change_a_default() -> None:
    class Big(Cache):
        port = 7000

    with pytest.raises(
        LayoutError, match=r"role Big: its value of port has no effect.*try: @dataclass"
    ):
        Big()

    class Bound(Cache):
        @property
        def port(self) -> int:
            return 1

    with pytest.raises(LayoutError, match=r"role Bound: port is a property here, and a parameter"):
        Bound()


# tasks


def test_tasks_are_in_the_order_in_which_they_stand() -> None:
    class Base(Role):
        @filesystem_task("one")
        def one(self, fs: Any) -> None: ...

        @filesystem_task("two")
        def two(self, fs: Any) -> None: ...

        @machine_task("three")
        def three(self, machine: Any) -> None: ...

    class Sub(Base):
        @filesystem_task("four")
        def four(self, fs: Any) -> None: ...

        @filesystem_task("another one")
        def one(self, fs: Any) -> None: ...

        two = None

    assert [task.title for task in Sub().tasks()] == ["another one", "three", "four"]
    assert [task.title for task in Sub().tasks("machine")] == ["three"]
    assert Sub().mistakes(PLACE) == ()


class Base(Role):
    @filesystem_task("install it")
    def install(self, fs: Any) -> None: ...


# what is told, of a role that a machine of a layout has


def told(role: Any, **more: Any) -> str:
    with pytest.raises(LayoutError) as caught:
        Layout.of("Shop", {"lan": LAN, "web": Machine(roles=[role], **more)})
    return str(caught.value)


LAN = Network("10.0.0.0/24")
PLACE = Base.install.place


def role(**attributes: Any) -> Role:
    made: Role = type("Made", (Role,), attributes)()
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer(Role):
    inner: Any

    @property
    def includes(self) -> tuple[Role, ...]:
        return (self.inner,)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (role(packages=("a b",)), "asks for 'a b', which is no name of a Debian package;"),
        (role(packages=7), "asks for 7, which is no name of a Debian package;"),
        (role(offers=(1,)), "has 1 in offers, which is no name;"),
        (role(offers={"a": 1}), "has {'a': 1} in offers, which is no name;"),
        (role(needs=("",)), "has '' in needs, which is no name;"),
        (role(groups=(None,)), "has None in groups, which is no name;"),
        (role(masquerade=5), "has 5 in masquerade, which is no name;"),
        (role(forward="yes"), "has forward = 'yes';"),
        (role(serves_dhcp=1), "has serves_dhcp = 1;"),
        (role(programs=("nginx",)), "has ('nginx',) as programs;"),
        (role(groups=("web-servers",)), "has 'web-servers' in groups, which is not a name that"),
        (role(uses=("freezing",)), "has 'freezing' in uses, which is nothing that machines can"),
        (role(uses=7), "has 7 in uses, which is nothing that machines can be asked for;"),
        (role(uses=property(lambda self: 1 / 0)), "cannot say its uses: ZeroDivisionError: "),
        (role(offers=property(lambda self: 1 / 0)), "cannot say its offers: ZeroDivisionError: "),
        (role(links=("eth0",)), "has ('eth0',) as links;"),
        (role(links={"eth0": LAN}), "has Network('10.0.0.0/24') as link 'eth0';"),
        (role(links={"a/b": LAN.at()}), "has a link whose interface name 'a/b' is one that"),
        (role(includes=(Nginx,)), "includes <class"),
        (role(includes=("nginx",)), "includes 'nginx', which is no role;"),
        (role(includes=5), "includes 5, which is no role;"),
        (
            type("Made", (Base,), {"install": lambda self, fs: None})(),
            "has install, which is a task",
        ),
        (type("Made", (Base,), {"install": 1})(), "has install, which is a task of Base, as some"),
        (role(go=machine_task("go")(lambda self: None)), "has task go, which cannot be called: "),
    ],
)
def test_wrong_attribute_is_told_with_the_machine(made: Role, what: str) -> None:
    text = told(made)
    assert f"machine 'web' of layout 'Shop': role Made {what}" in text
    assert f"; declared at {__file__}:" in text
    assert "; try: " in text
    # of an image's role, and of one that others consist of, too
    image = Image.debian("bookworm").with_(made)
    with pytest.raises(LayoutError, match="role Made "):
        Layout.of("Shop", {"web": Machine(image)})
    assert f"role Made {what}" in told(Outer(inner=made))


def test_group_that_ansible_does_not_take_is_refused_with_one_that_it_takes() -> None:
    assert told(role(groups="web-servers")).endswith('; try: groups = ("web_servers",)')
    assert told(role(uses=("powr",))).endswith(f"; try: one of {', '.join(CAPABILITIES)}")


def test_role_with_a_parameter_without_key_is_refused_where_it_has_filesystem_tasks() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd(Base):
        value: Any = None

    assert "role Odd has tasks of the file system and a parameter without a key" in told(
        Odd(value=object())
    )


# combined roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Front(Role):
    port: int = 80
    forward: bool = True

    @property
    def includes(self) -> tuple[Role, ...]:
        return (Nginx(), Cache(port=self.port))


@dataclass(frozen=True, slots=True, kw_only=True)
class All(Role):
    includes = (Front(), Postgres(), Nginx())
    groups = "all_in_one"


def test_combined_role_comes_after_its_parts_each_once() -> None:
    assert All().parts == (Nginx(), Cache(port=80), Front(), Postgres(), All())
    machine = Machine(Image.debian("bookworm"), roles=[Nginx(), All()])
    assert machine.parts == All().parts
    assert machine.roles == (Nginx(), All())
    assert role(includes=Nginx()).parts[0] == Nginx()


def test_classes_of_one_name_are_two_roles() -> None:
    one, two = role(offers="one"), role(offers="two")
    assert Machine(roles=[one, two, one]).parts == (one, two)
    assert Machine(roles=[role(includes=(one,))]).parts[0] is one


def test_parts_count_in_the_plan() -> None:
    class Dhcp(Role):
        includes = (DhcpServer(),)

    class Gate(Role):
        masquerade = "wan0"

    class Both(Role):
        includes = (Dhcp(), Gate(), All())

    class Shop(Layout):
        debian = Image.debian("bookworm")
        lan = Network("10.0.0.0/24")
        wan = Network("192.0.2.0/24")
        pc = Machine(links={"eth0": lan.at("auto", dhcp=True)})
        gw = Machine(debian, links={"eth0": lan.at(".1"), "wan0": wan.at(".1")}, roles=[Both()])

    plan = make_plan(Shop)
    gw = plan.machines["gw"]
    assert gw.forward
    assert gw.groups == ("all_in_one",)
    assert [link.interface for link in gw.links if link.v4 and link.v4.masquerade] == ["wan0"]
    assert plan.machines["pc"].after == ("gw",)
    router = Machine(roles=[role(includes=(Router(),))])
    assert extend_plan(plan, "router", router)[1].forward
    assert [type(one).__name__ for one in gw.roles][-3:] == ["Postgres", "All", "Both"]
    assert gw.image is not None
    wanted = {"dnsmasq-base", "nginx", "postgresql", "redis-server"}
    assert wanted <= gw.image.all_packages


def test_roles_that_include_each_other_are_refused() -> None:
    class Hen(Role):
        @property
        def includes(self) -> tuple[Role, ...]:
            return (Egg(),)

    class Egg(Role):
        @property
        def includes(self) -> tuple[Role, ...]:
            return (Hen(),)

    assert "role Hen includes itself: Hen includes Egg includes Hen;" in told(Hen())
    with pytest.raises(LayoutError, match=r"role Egg: includes itself: Egg includes Hen includes"):
        Egg().parts  # noqa: B018

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Endless(Role):
        number: int = 0

        @property
        def includes(self) -> tuple[Role, ...]:
            return (Endless(number=self.number + 1),)

    assert "role Endless includes itself: " in told(Endless())


def test_role_may_include_itself_with_other_parameters() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Level(Role):
        number: int = 0

        @property
        def includes(self) -> tuple[Role, ...]:
            return (Level(number=self.number - 1),) if self.number else ()

    assert [one.number for one in Level(number=2).parts] == [0, 1, 2]  # type: ignore[attr-defined]


# services


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop(Role):
    needs = ("postgres", "cache")


def test_service_that_nobody_offers_is_told_with_those_that_are() -> None:
    debian = Image.debian("bookworm")
    with pytest.raises(LayoutError) as caught:
        Layout.of(
            "Store",
            {
                "db": Machine(debian, roles=[Postgres()]),
                "db2": Machine(debian, roles=[Postgres()]),
                "web": Machine(debian, roles=[Nginx()]),
                "app": Machine(debian, roles=[Shop()]),
            },
        )
    line = caught.traceback[0].lineno
    assert (
        "machine 'app' of layout 'Store': its role Shop needs 'cache', which no machine of the "
        "layout offers; offered is 'http' (by 'web'), 'postgres' (by 'db', 'db2'); "
        f"declared at {__file__}:{line + 7}; try: a machine with a role whose offers have 'cache'"
    ) == str(caught.value)
    assert "offered is nothing" in told(Shop())


class Store(Layout):
    debian = Image.debian("bookworm")
    lan = Network("10.0.0.0/24")
    app = Machine(debian, roles=[Shop()], links={"eth0": lan.at(".3")})
    db = Machine(debian, roles=[Postgres()], links={"eth0": lan.at(".1")})
    cache = Machine(debian.with_(Cache()), links={"eth0": lan.at(".2")})
    bare = Machine()


def test_machine_waits_for_what_it_needs() -> None:
    plan = make_plan(Store)
    assert plan.machines["app"].after == ("db", "cache")
    plan, late = extend_plan(plan, "late", Machine(Store.debian, roles=[Shop()]))
    assert late.after == ("db", "cache")
    _, own = extend_plan(plan, "own", Machine(Store.debian, roles=[Cache(), Shop()]))
    assert own.after == ("db",)


def test_machines_that_need_each_other_do_not_wait_for_ever() -> None:
    class One(Role):
        offers, needs = "one", "two"

    class Two(Role):
        offers, needs = "two", "one"

    class Pair(Layout):
        one = Machine(roles=[One()])
        two = Machine(roles=[Two()])
        three = Machine(roles=[Two()], after=["one"])

    after = {name: one.after for name, one in make_plan(Pair).machines.items()}
    assert after == {"one": ("two",), "two": (), "three": ("one",)}


def test_machine_that_joins_without_what_it_needs_is_refused() -> None:
    class Needy(Role):
        needs = ("mail",)

    with pytest.raises(
        LayoutError, match=r"'late' .* needs 'mail', .* offered is 'cache' \(by 'cac"
    ):
        extend_plan(make_plan(Store), "late", Machine(roles=[Needy()]))


# looking


def test_layout_is_asked_for_services_and_roles_without_being_built() -> None:
    assert dict(Store.offering("postgres")) == {"db": Store.db}
    assert dict(Store.offering("cache")) == {"cache": Store.cache}
    assert dict(Store.offering("mail")) == {}
    assert dict(Store.with_role(Cache)) == {"cache": Store.cache}
    assert list(Store.with_role(Role)) == ["app", "db", "cache"]
    assert Store.app.roles == (Shop(),)
    assert Store.cache.image is not None
    assert Store.cache.image.roles == (Cache(),)
    with pytest.raises(TypeError, match=r"that is no class of roles; try: with_role\(Postgres\)"):
        Store.with_role(Postgres())  # type: ignore[arg-type]


def test_one_machine_has_another_parameter() -> None:
    class Other(Store):
        cache = Store.cache.replace(roles=[Cache(port=1).but(on=True)])

    assert Other.cache.roles == (Cache(port=1, on=True),)
    assert Store.cache.roles == ()


# links


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(Role):
    network: Any

    @property
    def links(self) -> Mapping[str, NetworkLink]:
        return {"mon0": self.network.at("auto"), "eth0": self.network.at("auto")}


def test_role_gives_its_machine_links_that_it_lacks() -> None:
    class Seen(Layout):
        lan = Network("10.0.0.0/24")
        mon = Network("172.16.0.0/24")
        web = Machine(links={"eth0": lan.at(".1")}, roles=[Watched(network=mon)])

    class Unseen(Seen):
        web = Seen.web.replace(roles=[])

    links = {link.interface: str(link.address) for link in make_plan(Seen).machines["web"].links}
    assert links == {"eth0": "10.0.0.1/24", "mon0": "172.16.0.1/24"}
    assert list(Unseen.web.links) == ["eth0"]


# targets


def test_role_with_filesystem_tasks_is_refused_where_the_file_system_is_the_hosts() -> None:
    class Both(Role):
        includes = (Base(),)

    class Bare(Layout):
        web = Machine(roles=[Both()])

    with pytest.raises(
        LayoutError,
        match=r"machine 'web' of layout 'Bare': role Base has a task of the file system "
        r"\('install it'\), and on target 'netns' that is the host's own, which stays as it is; "
        r'declared at .*; try: on="netns" with an image',
    ):
        make_plan(Bare)

    class Imaged(Layout):
        web = Machine(Image.debian("bookworm"), roles=[Both()])

    assert make_plan(Imaged).machines["web"].target == "netns"
    assert make_plan(Imaged, target="podman").machines["web"].target == "podman"
