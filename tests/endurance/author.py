"""A random author: source text of layouts, most of it sound, some of it nonsense."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.endurance.nonsense import nonsense

__all__ = ["Call", "Program", "write"]

#: of a hundred arguments, how many are nonsense: in one declaration as in another
_NONSENSE_PCT = (0, 0, 0.5, 1, 2, 6)


_ODD_NAMES = (
    *("all", "localhost", "ungrouped", "x" * 70, "add", "aio", "hosts", "vars", "A"),
    *("_x", "__doc__", "__slots__", "a-b", "3com", "xn--a", "run", "name", "Web", "target"),
    *("fixture", "a.b", "lan0", "", "a b", "ünicode", "links", "é", "root", "-x", "web0"),
)
_SAYINGS = (
    *("packages", "includes", "offers", "needs", "links", "programs", "uses", "groups"),
    *("serves_dhcp", "forward", "masquerade", "forwards"),
)


@dataclass(slots=True)
class Call:
    """A call, or a mapping (``dict``): its arguments may be left out one by one."""

    function: str
    args: list[Source] = field(default_factory=list)
    kwargs: dict[str, Source] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.function == "{}":
            return "{" + ", ".join(f"{key!r}: {one}" for key, one in self.kwargs.items()) + "}"
        if self.function == "[]":
            return "[" + ", ".join(map(str, self.args)) + "]"
        written = [*map(str, self.args), *(f"{name}={one}" for name, one in self.kwargs.items())]
        return f"{self.function}({', '.join(written)})"


Source = str | Call


@dataclass(slots=True)
class Program:
    """A layout as source text; members in their order."""

    name: str
    members: dict[str, Source]
    #: whether it is a class body; else ``Layout.of``
    is_body: bool
    #: what joins the live layout
    newcomer: tuple[str, Source] | None = None

    def __str__(self) -> str:
        lines = []
        if self.is_body:
            lines.append(f"class {self.name}(Layout):")
            lines += [f"    {name} = {one}" for name, one in self.members.items()] or ["    pass"]
            lines.append(f"layout = {self.name}")
        else:
            plain = [name for name in self.members if name.isidentifier()]
            lines += [f"{name} = {self.members[name]}" for name in plain]
            pairs = ", ".join(
                f"{name!r}: {name if name in plain else one}" for name, one in self.members.items()
            )
            lines.append(f"layout = Layout.of({self.name}, {{{pairs}}})")
        if self.newcomer is not None:
            lines.append(f"newcomer = ({self.newcomer[0]}, {self.newcomer[1]})")
        return "\n".join(lines) + "\n"

    def smaller(self) -> Iterator[Program]:
        """The same without one of its parts each."""
        for name in self.members:
            yield Program(
                self.name,
                {key: one for key, one in self.members.items() if key != name},
                self.is_body,
                self.newcomer,
            )
        if self.newcomer is not None:
            yield Program(self.name, self.members, self.is_body)
        for name, one in self.members.items():
            for less in _less(one):
                yield Program(self.name, {**self.members, name: less}, self.is_body, self.newcomer)
        if self.newcomer is not None:
            name, one = self.newcomer
            for less in _less(one):
                yield Program(self.name, self.members, self.is_body, (name, less))


def _less(one: Source) -> Iterator[Source]:
    if isinstance(one, str):
        return
    for number, inner in enumerate(one.args):
        rest = [*one.args[:number], *one.args[number + 1 :]]
        yield Call(one.function, rest, dict(one.kwargs))
        for less in _less(inner):
            changed = [*one.args[:number], less, *one.args[number + 1 :]]
            yield Call(one.function, changed, dict(one.kwargs))
    for name, inner in one.kwargs.items():
        yield Call(
            one.function,
            list(one.args),
            {key: value for key, value in one.kwargs.items() if key != name},
        )
        for less in _less(inner):
            yield Call(one.function, list(one.args), {**one.kwargs, name: less})


def write(random: Random, *, is_plain: bool = False) -> Program:
    """A program.

    :param is_plain: over the host's files alone, so that it can be built in a moment; names are
        ordinary ones, since processes of root are given them.
    """
    return _Author(random, random.choice(_NONSENSE_PCT), is_plain).program()


class _Author:
    def __init__(self, random: Random, nonsense_pct: float, is_plain: bool) -> None:
        self.random = random
        self.share = nonsense_pct / 100
        self.is_plain = is_plain
        self.networks: list[str] = []
        self.images: list[str] = []
        self.machines: list[str] = []

    # choosing

    def one(self, *choices: Source) -> Source:
        return self.random.choice(choices)

    def maybe(self, source: Source) -> Source:
        """It, or now and then nonsense."""
        return nonsense(self.random) if self.random.random() < self.share else source

    def some(
        self, options: Mapping[str, Callable[[], Source]], probability: float
    ) -> dict[str, Source]:
        given = {
            name: self.maybe(make())
            for name, make in options.items()
            if self.random.random() < probability
        }
        if self.random.random() < self.share / 4:
            given[self.random.choice(("link", "netwrk", "memory", "x", "class_"))] = "1"
        return given

    def call(
        self,
        function: str,
        args: Sequence[Source] = (),
        options: Mapping[str, Callable[[], Source]] | None = None,
        probability: float = 0.15,
    ) -> Call:
        given = [self.maybe(one) for one in args]
        if self.random.random() < self.share / 4:
            given.append(nonsense(self.random))
        return Call(function, given, self.some(options or {}, probability))

    # declaring

    def program(self) -> Program:
        members: dict[str, Source] = {}
        for number in range(self.random.randint(1, 3)):
            name = self.name("lan", "dmz", "wan", number)
            sound = self.network(number)
            members[name] = self.maybe(sound)
            if members[name] is sound:
                self.networks.append(name)
        for number in range(0 if self.is_plain else self.random.randint(0, 2)):
            name = self.name("debian", "base", "box", number)
            members[name] = self.maybe(self.image())
            self.images.append(name)
        for number in range(self.random.randint(1, 4)):
            name = self.name("web", "db", "gw", number)
            members[name] = self.maybe(self.machine(number))
            self.machines.append(name)
        if self.random.random() < 0.15:
            members["packages"] = self.maybe(self.packages())
        if self.random.random() < 0.05:
            members["target"] = self.maybe(self.one("None", "'netns'", "'podman'"))
        if self.random.random() < 0.05:
            members["subscribers"] = self.maybe(self.one("[]", "[print]"))
        is_body = self.random.random() < 0.7 and all(name.isidentifier() for name in members)
        newcomer = None
        if self.random.random() < 0.3:
            newcomer = str(self.maybe("'late'")), self.maybe(self.machine(9, is_late=True))
        name = "Shop" if is_body else "'Shop'" if self.is_plain else str(self.maybe("'Shop'"))
        return Program(name, members, is_body, newcomer)

    def name(self, *names: object) -> str:
        *usual, number = names
        if self.random.random() < self.share and not self.is_plain:
            return self.random.choice(_ODD_NAMES)
        return f"{self.random.choice(usual)}{number}"

    def network(self, number: int) -> Source:
        subnets: list[Source] = [f"'10.{number}.0.0/{self.random.choice((16, 24, 28, 30))}'"]
        if self.random.random() < 0.3:
            subnets.append(f"'fd00:{number}::/64'")
        if self.random.random() < 0.1:
            subnets = []
        options: dict[str, Callable[[], Source]] = {
            "kind": lambda: self.one("'bridged'", "'point-to-point'", "'vxlan'", "'gre'"),
            "vlan_id": lambda: str(self.random.randint(1, 4094)),
            "vni": lambda: str(self.random.randint(1, 2**24 - 1)),
            "mtu": lambda: self.one("1500", "1400", "9000"),
            "ipv6": lambda: self.one("True", "False"),
        }
        if self.is_plain:
            options = {name: options[name] for name in ("mtu", "ipv6")}
        made = self.call("Network", subnets, options, 0.04)
        if not subnets and self.random.random() < 0.7:
            made.kwargs["v4"] = self.maybe(self.config("V4Config", f"'10.{number}.0.0/24'"))
            if self.random.random() < 0.3:
                made.kwargs["v6"] = self.maybe(self.config("V6Config", f"'fd0{number}::/64'"))
        return made

    def config(self, kind: str, network: str | None = None) -> Source:
        if kind == "V6Config":
            made = self.call(kind, (), {"address": lambda: "'::7'", "metric": lambda: "7"}, 0.2)
            return self._on(made, network)
        made = self.call(
            kind,
            (),
            {
                "address": lambda: self.one("'.5'", "'auto'", "(lambda link: '.7')", "fails"),
                "gateway": lambda: self.one("'.1'", "False", "(lambda link: '.1')"),
                "dhcp": lambda: self.one("True", "False"),
                "dhcp_ranges": lambda: "[('.100', '.120')]",
                "pool": lambda: self.one("('.20', '.60')", "[('.20', '.30')]"),
                "secondary_addresses": lambda: self.one("['.77']", "[('.78', '203.0.113.7')]"),
                "public_address": lambda: "'203.0.113.9'",
                "dns_servers": lambda: self.one("'.1'", "['.1', '.2']"),
                "domains": lambda: self.one("'prod.example'", "['a.example', 'b']"),
                "metric": lambda: self.one("0", "100", "(lambda link: 7)"),
                "masquerade": lambda: self.one("True", "False"),
                "external_addresses": lambda: "['.250']",
            },
            0.1,
        )
        return self._on(made, network)

    def _on(self, made: Call, network: str | None) -> Source:
        if network is not None:
            made.kwargs["network"] = self.maybe(network)
        return made

    def link(self, number: int) -> Source:
        if len(self.networks) > 1 and self.random.random() < 0.03 and not self.is_plain:
            return self.call("trunk", self.networks[:2], {"mac": lambda: "'02:00:00:00:00:09'"})
        network = self.random.choice(self.networks or ["Network('10.50.0.0/24')"])
        where = f"{network}.at" if network.isidentifier() else "Network('10.51.0.0/24').at"
        address: list[Source] = [self.one(f"'.{number + 5}'", f"'.{number + 5}'", "'auto'", "None")]
        if self.random.random() < 0.2:
            address = []
        elif self.random.random() < 0.03:
            address.append("'::5'")
        options: dict[str, Callable[[], Source]] = {
            "gateway": lambda: self.one("'.1'", "False"),
            "dhcp": lambda: "True",
            "slaac": lambda: "True",
            "masquerade": lambda: self.one("True", "False"),
            "public_address": lambda: "'203.0.113.8'",
            "secondary_addresses": lambda: self.one("['.66']", "(lambda link: ['.67'])"),
            "metric": lambda: self.one("1", "200"),
            "v4": lambda: self.config("V4Config"),
            "v6": lambda: self.config("V6Config"),
            "mac": lambda: self.one("'02:00:00:00:00:01'", "'02-AA-00-00-00-02'"),
            "mtu": lambda: self.one("1400", "1280"),
            "kind": lambda: self.one("'macvlan'", "'bond'", "'vlan'", "'trunk'"),
            "over": lambda: self.one("'eth0'", "['eth1']"),
            "bond": lambda: "('eth5', 'eth6')",
            "required": lambda: "False",
            "admin_up": lambda: "False",
            "dns_name": lambda: self.one("'www.prod.example'", "'x'"),
            "expects": lambda: self.one("'.9'", "'10.0.0.9/24'"),
        }
        if address != ["None"] or self.is_plain:  # what is expected has to be set by somebody
            del options["expects"]
        return self.call(where, address, options, 0.02)

    def links(self, number: int) -> Source:
        interfaces = self.random.sample(("eth0", "eth1", "lan0", "wan0"), self.random.randint(0, 2))
        if self.random.random() < 0.6:
            interfaces = ["eth0"]
        made = Call("{}", [], {str(self.key(i)): self.maybe(self.link(number)) for i in interfaces})
        return Call("NetworkConfig", [made]) if self.random.random() < 0.05 else made

    def key(self, usual: str) -> str:
        odd = ("eth0/1", ".", "..", "lo", "all", "x" * 16, "é" * 8, "a b", "%", "", "\x1b[2J")
        return self.random.choice(odd) if self.random.random() < self.share else usual

    def machine(self, number: int, *, is_late: bool = False) -> Source:
        images = [name for name in self.images if name.isidentifier()]
        image: list[Source] = []
        if images and self.random.random() < 0.5:
            image = [f"layout.{images[0]}" if is_late else self.random.choice(images)]
        options: dict[str, Callable[[], Source]] = {
            "roles": self.roles,
            "on": lambda: self.one("'netns'", "'podman'", "None"),
            "hostname": lambda: self.one("'www.prod.example'", "'host-1'"),
            "command": lambda: self.one("'sleep infinity'", "['sleep', 'infinity']"),
            "restart": lambda: self.one("'no'", "'always'", "'on-failure:3'"),
            "init": lambda: self.one("'systemd'", "None"),
            "env": lambda: self.one("{'LANG': 'C.UTF-8'}", "{'A': 'x' * 140_000}", "{'Ä': 'ö'}"),
            "loopback": lambda: self.one("'10.255.0.1'", "['10.255.0.2', 'fd00::ff']"),
            "forward": lambda: "True",
            "masquerade": lambda: self.one("'eth0'", "['eth0', 'eth1']"),
            "forwards": self.forward,
            "routes": lambda: self.one("{'10.77.0.0/16': '.1'}", "{'default': '.1'}"),
            "wait_for": self.condition,
            "ready_timeout_s": lambda: self.one("5", "0.5", "1e9"),
            "limits": lambda: self.call(
                "Limits",
                (),
                {
                    "memory_mib": lambda: self.one("64", "256", "1", "2**43-1", "2**50"),
                    "cpus": lambda: self.one("0.5", "2", "0.01", "1e5", "1e-9", "1e12"),
                    "pids": lambda: self.one("50", "2", "2**22", "1", "2**40"),
                },
                0.5,
            ),
            "strict_settings": lambda: "True",
            "privileged": lambda: self.one("True", "False"),
            "capabilities": lambda: self.one("['SYS_NICE']", "'ALL'"),
            "devices": lambda: self.one("['/dev/fuse']", "'/dev/null:/dev/x:r'"),
            "groups": lambda: self.one("['web']", "'db'", "['all']", "'hosts'"),
            "variables": lambda: self.one("{'tier': 'front'}", "{'a': [1, {'b': None}]}"),
            "inventory_hostname": lambda: self.one("'web1.prod.example'", "'all'", "'localhost'"),
            "after": lambda: self.one("[]", "'web0'", "[gw0]"),
        }
        if self.is_plain:
            for name in ("on", "privileged", "capabilities", "devices", "init", "wait_for"):
                del options[name]
        rare = ("on", "privileged", "capabilities", "devices", "restart", "after", "routes")
        for name in rare:
            if self.random.random() < 0.7:
                options.pop(name, None)
        made = self.call("Machine", image, options, 0.05)
        if "links" not in made.kwargs and not is_late and self.random.random() < 0.95:
            made.kwargs["links"] = self.maybe(self.links(number))
        return made

    def forward(self) -> Source:
        made = self.call(
            "Forward",
            ["'eth0'", "80"],
            {"to_port": lambda: "8080", "protocol": lambda: self.one("'tcp'", "'udp'")},
            0.4,
        )
        made.kwargs["to"] = self.maybe(self.one(*(f"{one!r}" for one in self.machines), "'.6'"))
        return made

    def condition(self) -> Source:
        return self.random.choice(
            (
                lambda: self.call("port", ["80"]),
                lambda: self.call("unit", ["'nginx'"]),
                lambda: self.call("command", ["'true'"], {"user": lambda: "'root'"}),
                lambda: self.call("file", ["'/run/x'"]),
                lambda: self.call("log", ["'started'"]),
                lambda: self.one("exited(0)", "rebooted()", "port(443)", "port(22)"),
                lambda: self.call("Condition", ["'port'", "'80'"]),
            )
        )()

    def roles(self) -> Source:
        kinds: tuple[tuple[str, dict[str, Callable[[], Source]]], ...] = (
            (
                "Router",
                {
                    "masquerade": lambda: self.one("'eth0'", "('eth0', 'eth1')"),
                    "forwards": lambda: Call("[]", [self.forward()]),
                    "forward": lambda: "True",
                },
            ),
            ("DhcpServer", {"networks": lambda: "('lan0',)", "lease_s": lambda: "600"}),
            (
                "DnsServer",
                {
                    "domain": lambda: "'shop.example'",
                    "upstream": lambda: "'10.0.0.53'",
                    "networks": lambda: "('lan0',)",
                },
            ),
            ("Nginx", {}),
            ("Postgres", {"databases": lambda: "('shop',)", "password": lambda: "'x'"}),
            ("SshServer", {"port": lambda: "2222", "user": lambda: "'root'"}),
            ("Startup", {"commands": lambda: "('true',)"}),
            ("CertificateAuthority", {"name": lambda: "'CA'", "days": lambda: "9"}),
            ("Certificate", {"name": lambda: "'web'", "names": lambda: "('a.example',)"}),
            ("Consul", {"datacenter": lambda: "'dc1'", "server": lambda: "True"}),
            (
                "OspfRouter",
                {
                    "interfaces": lambda: "('eth0',)",
                    "costs": lambda: "{'eth0': 5}",
                    "hello_s": lambda: "2",
                    "dead_s": lambda: "9",
                },
            ),
            (
                "FrrRouter",
                {"text": lambda: "'!'", "config": lambda: "'frr'", "daemons": lambda: "('bfdd',)"},
            ),
            ("Theirs", {"port": lambda: "80", "says": lambda: "{'groups': ('web',)}"}),
            ("Theirs", {"port": lambda: "-1", "says": self.sayings}),
        )
        kind, options = self.random.choice(kinds)
        made = self.call(kind, (), options, 0.4)
        return Call("[]", [self.maybe(made)]) if self.random.random() < 0.9 else made

    def sayings(self) -> Source:
        chosen = self.random.sample(_SAYINGS, self.random.randint(1, 2))
        return Call("{}", [], {name: nonsense(self.random) for name in chosen})

    def packages(self) -> Source:
        return self.random.choice(
            (
                "'open'",
                "['nginx']",
                self.call(
                    "Packages",
                    ["'nginx'"],
                    {
                        "repositories": lambda: "['https://packages.example/debian']",
                        "pip": lambda: self.one("True", "'https://pypi.example/simple'"),
                        "npm": lambda: "True",
                    },
                    0.3,
                ),
            )
        )

    def image(self) -> Source:
        base = self.random.choice(
            (
                lambda: self.call(
                    "Image.debian",
                    ["'bookworm'"],
                    {
                        "variant": lambda: self.one("'minbase'", "'standard'"),
                        "packages": lambda: self.one("['curl']", "'git'"),
                        "mirror": lambda: "'http://deb.example/debian'",
                        "keyring": lambda: "None",
                        "docs": lambda: "True",
                        "locales": lambda: "['de_DE.UTF-8']",
                        "name": lambda: "'mine'",
                    },
                ),
                lambda: self.call("Image.oci", ["'localhost/x:1'"], {"name": lambda: "'x'"}),
                lambda: self.call("Image.rootfs", ["'root.tar'"], {"name": lambda: "'x'"}),
                lambda: self.call(
                    "Image.containerfile", ["'Containerfile'"], {"context": lambda: "'.'"}
                ),
                lambda: self.call("Image.disk", ["'disk.qcow2'"], {"name": lambda: "'x'"}),
            )
        )()
        if self.random.random() < 0.5:
            return base
        contents: list[Source] = [
            self.one("Nginx()", "a_task", "Router()", "Postgres()", self.file())
            for _ in range(self.random.randint(0, 2))
        ]
        return self.call(
            f"{base}.with_",
            contents,
            {
                "name": lambda: "'server'",
                "tag": lambda: "'localhost/server:1'",
                "command": lambda: self.one("'run'", "['/sbin/init']"),
                "env": lambda: "{'A': 'b'}",
                "labels": lambda: "{'A': 'b'}",
                "user": lambda: "'nobody'",
                "healthcheck": lambda: self.one("['true']", "Healthcheck(command=('true',))"),
                "workdir": lambda: "'/srv'",
            },
        )

    def file(self) -> Source:
        return self.call(
            "File",
            ["'site.conf'", "'/etc/site.conf'"],
            {"mode": lambda: self.one("0o644", "None"), "user": lambda: "'root'"},
            0.3,
        )
