"""Targets, by what their machines are like: their names mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import Any, ClassVar, get_args

import pytest

from pytest_carthage import (
    Image,
    Layout,
    LayoutError,
    Limits,
    Machine,
    Network,
    On,
    Role,
    Vm,
    command,
    file,
    filesystem_task,
    log,
    machine_task,
    port,
    unit,
)
from pytest_carthage.handles.capability import CAPABILITIES, OPERATIONS, Capability, lacking
from pytest_carthage.planning import extend_plan, make_plan, targets
from pytest_carthage.planning.traits import Traits, traits_of
from pytest_carthage.providers.netns import NetnsProvider
from pytest_carthage.providers.podman import PodmanProvider
from pytest_carthage.providing import Providers
from pytest_carthage.roles import DhcpServer, Router

LAN = Network("10.0.0.0/24")
DEBIAN = Image.debian("bookworm")
#: bare: on the host's root, full: from images, shelf: boards that are there already
BARE = Traits(root="host", init=False, outside=False, is_default=True)
FULL = Traits(root="image", init=True, outside=False, needs="disk", is_default=True)
SHELF = Traits(root="existing", init=True, outside=True)


def plan_of(machine: Machine, *, on: str | None = None, **known: Traits) -> Any:
    offered = known or {"bare": BARE, "full": FULL, "shelf": SHELF}
    layout = Layout.of("Lab", {"lan": LAN, "web": machine})
    return make_plan(layout, target=on, targets=offered)


def message(machine: Machine, *, on: str | None = None, **known: Traits) -> str:
    with pytest.raises(LayoutError) as caught:
        plan_of(machine, on=on, **known)
    text = str(caught.value)
    assert "machine 'web' of layout 'Lab': " in text
    assert f"; declared at {__file__}:" in text
    return text.partition("'Lab': ")[2].replace(f"{__file__}:", "here:")


def test_machine_without_a_choice_takes_the_default_of_its_kind_of_root() -> None:
    assert plan_of(Machine()).machines["web"].target == "bare"
    planned = plan_of(Machine(DEBIAN)).machines["web"]
    assert (planned.target, planned.traits) == ("full", FULL)
    assert plan_of(Machine(DEBIAN), on="bare").machines["web"].image is None
    # what a board is, it is already
    assert plan_of(Machine(DEBIAN), on="shelf").machines["web"].image is None


def test_added_machine_is_planned_by_the_targets_of_the_plan() -> None:
    plan = plan_of(Machine())
    _, planned = extend_plan(plan, "board", Machine(on="shelf"))
    assert planned.traits == SHELF
    with pytest.raises(LayoutError, match=r"target 'cloud' is unknown; .*one of bare, full, shelf"):
        extend_plan(plan, "board", Machine(on="cloud"))


def test_machine_without_a_choice_and_a_default_is_refused() -> None:
    assert message(Machine(DEBIAN), bare=BARE, shelf=SHELF).endswith(
        "; try: on= one of bare, shelf"
    )
    twice = message(Machine(), bare=BARE, other=BARE)
    assert twice.startswith(
        "no target is chosen, and there is no default for a machine without an image; "
    )


def test_init_on_a_target_that_boots_none_is_refused() -> None:
    machine = Machine(DEBIAN, init="systemd")
    assert message(machine, on="bare") == (
        "target 'bare' cannot run systemd: its machines share the host's file system; declared at "
        f'here:{machine.place.line}; try: on="full" with an image, or leave init= out'
    )
    small = Traits(root="image", init=False, outside=False, needs="folders")
    booting = Machine(Image.debian("bookworm").with_(command=["/sbin/init"]))
    text = message(booting, on="small", small=small)
    assert text.startswith("target 'small' cannot run systemd; declared at here:")
    assert text.endswith("; try: a target with an image, or leave init= out")


def test_missing_image_is_refused_where_roots_come_from_images() -> None:
    assert message(Machine(), on="full").endswith(
        '; try: Machine(Image.debian("bookworm"), ...), or on="bare"'
    )
    assert message(Machine(), on="full", full=FULL).endswith(
        '; try: Machine(Image.debian("bookworm"), ...)'
    )


class Signed(Role):
    @filesystem_task("sign")
    def sign(self, fs: Any) -> None: ...


def test_filesystem_task_is_refused_where_the_root_is_the_hosts() -> None:
    assert message(Machine(roles=[Signed()])).startswith(
        "role Signed has a task of the file system ('sign'), and on target 'bare' that is the "
        "host's own, which stays as it is; declared at here:"
    )
    plan_of(Machine(DEBIAN, roles=[Signed()]))
    plan_of(Machine(roles=[Signed()]), on="shelf")


class Freezing(Role):
    uses = ("freeze",)


class Icy(Role):
    uses = "freeze"  # type: ignore[assignment]  # one stands for itself


class Greeting(Role):
    @machine_task("greet")
    def greet(self, machine: Any) -> None: ...


@pytest.mark.parametrize(
    ("machine", "lacks", "text"),
    [
        (Machine(wait_for=port(80)), "listening", "tell what listens in a machine, and port '80'"),
        (Machine(wait_for=log("up")), "logs", "tell what a machine printed, and log 'up'"),
        (Machine(wait_for=file("/x")), "files", "read and write files of machines, and file '/x'"),
        (Machine(wait_for=unit("nginx")), "run", "run commands in machines, and unit 'nginx'"),
        (Machine(wait_for=command("true")), "run", "run commands in machines, and command 'true'"),
        (Machine(limits=Limits(pids=5)), "limits", "limit machines, and the machine has limits="),
        (
            Machine(command="sleep 1"),
            "command",
            "start a command as a machine's main process, and the machine has command=",
        ),
        (Machine(roles=[Freezing()]), "freeze", "freeze machines, and role Freezing uses that"),
        (Machine(roles=[Icy()]), "freeze", "freeze machines, and role Icy uses that"),
        (
            Machine(roles=[Greeting()]),
            "run",
            "run commands in machines, and role Greeting has tasks ('greet')",
        ),
    ],
)
def test_declaration_that_a_target_lacks_is_refused_by_name_before_anything_is_built(
    machine: Machine, lacks: Capability, text: str
) -> None:
    poor = Traits(root="existing", init=True, outside=False, lacks=frozenset({lacks}))
    refused = message(machine, on="poor", poor=poor, bare=BARE, shelf=SHELF)
    assert refused.startswith(f"target 'poor' cannot {text}")
    assert refused.endswith('; try: on="bare" or on="shelf"')
    plan_of(machine, on="poor", poor=Traits(root="existing", init=True, outside=False))


def test_links_of_a_machine_outside_of_the_fabric_are_refused_by_name() -> None:
    machine = Machine(links={"eth0": LAN.at(".1")})
    refused = message(machine, on="shelf")
    line = machine.links["eth0"].place.line
    assert refused == (
        "target 'shelf' cannot put machines on networks of a layout, and the machine has link "
        f"'eth0'; declared at here:{line}; try: on=\"bare\", or a link to a"
        ' Network(..., external="where it is")'
    )
    assert 'on="bare" or on="full"' in message(
        Machine(DEBIAN, links={"eth0": LAN.at(".1")}), on="shelf"
    )
    for role in (Router(), DhcpServer()):
        assert f"role {type(role).__name__} works on its links" in message(
            Machine(roles=[role]), on="shelf"
        )


def test_traits_that_contradict_each_other_or_name_what_there_is_not_are_refused() -> None:
    with pytest.raises(ValueError, match="a root that comes from an image needs folders or a disk"):
        Traits(root="image", init=True, outside=False)
    with pytest.raises(ValueError, match=r"traits: lacks=\['fly'\]; there are: \['run', 'files'"):
        Traits(root="host", init=True, outside=False, lacks=frozenset({"fly"}))  # type: ignore[arg-type]


def test_every_capability_has_words_and_none_is_listed_twice() -> None:
    assert set(get_args(Capability)) == set(CAPABILITIES)
    assert set(OPERATIONS) < set(CAPABILITIES)
    assert len(set(CAPABILITIES.values())) == len(CAPABILITIES)


def test_endpoint_that_has_everything_lacks_nothing() -> None:
    agent = {"run", "wait", "kill", "open", "stat", "listdir", "mkdirs", "symlink", "chmod"}
    agent |= {"chown", "socket", "lookup", "listening", "observe", "ping"}
    assert lacking(agent) == frozenset()
    assert lacking(agent - {"socket"}) == {"socket", "connect", "echo"}
    assert lacking(agent - {"socket"} | {"connect", "echo"}) == {"socket"}
    assert lacking(agent - {"wait"}) == {"run"}
    assert lacking(()) == set(OPERATIONS)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points of targets, which the test decides."""
    entries: list[EntryPoint] = []
    monkeypatch.setattr(targets, "entry_points", lambda group: entries)
    targets.installed.cache_clear()
    yield entries
    targets.installed.cache_clear()


def test_installed_targets_are_those_of_all_distributions() -> None:
    known = targets.installed()
    assert known["netns"] == NetnsProvider.traits
    assert known["podman"] == PodmanProvider.traits


def test_target_that_cannot_be_loaded_is_warned_of_and_the_others_are_there(
    offered: list[EntryPoint],
) -> None:
    home = "pytest_carthage.providers"
    offered.append(EntryPoint("netns", f"{home}.netns:NetnsProvider", targets.GROUP))
    offered.append(EntryPoint("cloud", f"{home}.cloud:CloudProvider", targets.GROUP))
    with pytest.warns(UserWarning, match="target 'cloud' cannot be used: ModuleNotFoundError: No"):
        assert targets.installed() == {"netns": NetnsProvider.traits}


class Mine(NetnsProvider):
    kind = "mine"


class MineByDefault(NetnsProvider):
    kind = "mine"
    traits = NetnsProvider.traits


@pytest.mark.parametrize("make", [Mine, lambda: Mine()], ids=["class", "function"])
def test_subclass_of_the_default_is_no_default_by_accident(
    offered: list[EntryPoint], monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    monkeypatch.setattr(f"{__name__}.make", make, raising=False)
    home = "pytest_carthage.providers"
    offered.append(EntryPoint("netns", f"{home}.netns:NetnsProvider", targets.GROUP))
    offered.append(EntryPoint("mine", f"{__name__}:make", targets.GROUP))
    known = targets.installed()
    assert known["mine"] == replace(NetnsProvider.traits, is_default=False)
    assert targets.default(known, "host") == "netns"
    # the plugin and the command line ask the providers of their process
    known = Providers({"netns": NetnsProvider, "mine": make}).traits
    assert targets.default(known, "host") == "netns"


def test_subclass_that_says_so_is_a_default() -> None:
    assert traits_of(MineByDefault).is_default
    assert traits_of(MineByDefault()).is_default
    mine = Mine()
    assert not traits_of(mine).is_default
    mine.traits = BARE
    assert traits_of(mine).is_default


def test_default_is_told_only_where_there_is_one() -> None:
    assert targets.default({"bare": BARE, "full": FULL}, "image") == "full"
    assert targets.default({"bare": BARE}, "image") is None
    assert targets.default({"a": BARE, "b": BARE}, "host") is None


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"privileged": True}, "privileged="),
        ({"capabilities": "sys_nice"}, "capabilities="),
        ({"devices": ["/dev/fuse"], "capabilities": ["CAP_SYS_NICE"]}, "capabilities= and devices"),
    ],
)
def test_rights_over_the_host_are_refused_where_a_target_gives_none(
    arguments: dict[str, Any], names: str
) -> None:
    machine = Machine(DEBIAN, **arguments)
    ship = replace(FULL, privileges=True, is_default=False)
    text = message(machine, on="full", full=FULL, ship=ship)
    assert text.startswith(
        "target 'full' gives no rights over the host to machines, and the machine has " + names
    )
    assert text.endswith('; try: on="ship", or leave them out')
    planned = plan_of(machine, on="ship", ship=ship).machines["web"]
    assert planned.privileges == machine.privileges
    assert planned.privileges.capabilities in ((), ("SYS_NICE",))


def test_restart_is_refused_where_a_target_starts_nothing_again() -> None:
    machine = Machine(DEBIAN, command="true", restart="on-failure:3")
    ship = replace(FULL, restarts=True, is_default=False)
    text = message(machine, on="full", full=FULL, ship=ship)
    assert text.startswith(
        "target 'full' starts no main process again, and the machine has restart='on-failure:3';"
    )
    assert text.endswith('; try: on="ship", or leave it out')
    assert plan_of(machine, on="ship", ship=ship).machines["web"].restart == "on-failure:3"


def test_restart_is_refused_where_the_image_boots_systemd() -> None:
    machine = Machine(DEBIAN.with_(command=["/sbin/init"]), restart="always")
    full = replace(FULL, restarts=True)
    assert message(machine, on="full", full=full).startswith(
        "restart='always' and init='systemd' exclude each other: systemd starts services again by"
    )


@dataclass(frozen=True, kw_only=True)
class Board(On):
    """Which board of the shelf it is."""

    target: ClassVar[str] = "shelf"
    slot: int = 0


TOLD = replace(SHELF, settings=Board, needs_settings=True, lacks=frozenset({"limits", "freeze"}))


def test_machine_with_settings_is_on_their_target_whatever_is_wanted() -> None:
    planned = plan_of(Machine(on=Board(slot=3)), on="bare", bare=BARE, shelf=TOLD).machines["web"]
    assert (planned.target, planned.on) == ("shelf", Board(slot=3))
    assert plan_of(Machine(on="bare")).machines["web"].on is None


def test_settings_of_a_target_that_there_is_not_are_refused() -> None:
    text = message(Machine(on=Vm()))
    assert text.startswith("target 'libvirt' is unknown; ")


def test_settings_that_a_target_does_not_take_are_refused_where_they_are_made() -> None:
    text = message(Machine(on=Board()))
    assert text.startswith("target 'shelf' takes no Board; ")
    assert text.endswith('; try: on="shelf"')
    other = replace(SHELF, settings=Vm)
    assert message(Machine(on=Board()), shelf=other).endswith("; try: on=Vm(...)")


def test_target_that_has_to_be_told_refuses_its_name_alone() -> None:
    for machine, on in ((Machine(on="shelf"), None), (Machine(), "shelf")):
        text = message(machine, on=on, shelf=TOLD)
        assert text.startswith("target 'shelf' has to be told which machine it is; ")
        assert text.endswith("; try: on=Board(...)")


def test_what_settings_have_instead_of_a_capability_is_told() -> None:
    able = replace(SHELF, settings=Vm, lacks=frozenset({"limits"}))
    text = message(Machine(on="shelf", limits=Limits(pids=5)), shelf=able, bare=BARE)
    assert text.endswith(
        '; try: on=Vm(memory_mib=..., cpus=...), which it cannot exceed; or on="bare"'
    )


def test_machine_with_a_kernel_of_its_own_has_no_macvlan() -> None:
    machine = Machine(DEBIAN, links={"eth0": LAN.at(".1", kind="macvlan")})
    assert message(machine).startswith(
        "target 'full' cannot give a machine the interface 'eth0' of kind 'macvlan'"
    )
    assert plan_of(machine, on="bare").machines["web"].links[0].kind == "macvlan"


def test_machine_with_a_kernel_of_its_own_tells_its_cables_apart_by_mac() -> None:
    mac = "02:00:00:00:00:01"
    dmz = Network("192.0.2.0/24")
    links = {"eth0": LAN.at(".1", mac=mac), "eth1": dmz.at(".1", mac=mac)}
    layout = Layout.of("Lab", {"lan": LAN, "dmz": dmz, "web": Machine(DEBIAN, links=links)})
    with pytest.raises(LayoutError, match=f"'eth0' and 'eth1' have the mac '{mac}' both"):
        make_plan(layout, targets={"full": FULL})
    folders = replace(FULL, needs="folders")
    assert make_plan(layout, targets={"full": folders}).machines["web"].links[1].mac == mac


def test_two_machines_with_one_mac_are_refused_with_both_places() -> None:
    first = LAN.at(".1", mac="02:00:00:00:00:01")
    second = LAN.at(".2", mac="02-00-00-00-00-01")
    machines = {"db": Machine(links={"eth0": first}), "web": Machine(links={"eth0": second})}
    with pytest.raises(LayoutError) as caught:
        Layout.of("Lab", {"lan": LAN, **machines})
    assert str(caught.value) == (
        "machine 'web' of layout 'Lab': mac '02:00:00:00:00:01' of interface 'eth0' is taken by"
        f" machine 'db' in network 'lan' (declared at {first.place}); declared at {second.place};"
        " try: another one, or leave it out"
    )


def test_shop_is_planned_unchanged_on_virtual_machines() -> None:
    from pytest_carthage_fixtures.shop import Shop

    vm = Traits(
        root="image",
        init=True,
        outside=False,
        needs="disk",
        lacks=frozenset({"limits", "command"}),
        settings=Vm,
    )
    known = {**targets.installed(), "libvirt": vm}
    plan = make_plan(Shop, target="libvirt", targets=known)
    assert {machine.target for machine in plan.machines.values()} == {"libvirt"}
    usual = make_plan(Shop, targets=known)
    for name, machine in plan.machines.items():
        same = replace(usual.machines[name], target="libvirt", traits=vm)
        assert machine == same
    till = Shop.till(Shop, "auto")  # type: ignore[arg-type]
    _, added = extend_plan(plan, "till-1", till)
    assert (added.target, added.on) == ("libvirt", None)
