"""Every place that calls an author's function: what fails there is told with the author's line.

Each row is a file as authors write them, in which one line (marked) fails. What comes out is an
error of ours, which names who called what and that line, and the author's exception is its cause.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest

import pytest_carthage
from pytest_carthage import roles, testing
from pytest_carthage.errors import CarthageError, CreationError, FabricError, LayoutError
from pytest_carthage.live.layout import Layout
from pytest_carthage.model.addresses.ipconfig import V4Config, V6Config
from pytest_carthage.model.mistakes.culprit import Authored, culprit, described
from pytest_carthage.planning import make_plan
from pytest_carthage.providing import Providers, check

FILE = "/suite/conftest.py"

HEAD = """
def broken(*arguments):
    prices = {}
    return prices["milk"]  # fails

"""
LAB = """
class Lab(Layout):
    lan = Network("10.0.0.0/24", "fd00::/64")
    a = Machine(links={"eth0": lan.at(".1")}, roles=[Bad()])
    b = Machine(links={"eth0": lan.at(".2")})
"""
TASK = """
class Bad(Role):
    @KIND_task("count")
    DEF count(self, it):
        broken()
"""


@dataclass(frozen=True)
class Row:
    name: str
    source: str
    #: how the message tells who called what
    who: str
    kind: type[CarthageError] = CreationError
    #: what is done to the live layout; None: it does not come to life
    act: Callable[[Any], object] | None = None


def _declared(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "author"}
    names |= {name: getattr(pytest_carthage, name) for name in pytest_carthage.__all__}
    names |= {name: getattr(roles, name) for name in roles.__all__}
    exec(compile(HEAD + source, FILE, "exec"), names)
    return names


def _configured(config: type) -> list[Row]:
    """A row for each value of a link that may be a function."""
    version = config.__name__[:2].lower()
    return [
        Row(
            f"{config.__name__}({field.name}=)",
            f"""
class Lab(Layout):
    lan = Network("10.0.0.0/24", "fd00::/64")
    a = Machine(links={{"eth0": lan.at({version}={config.__name__}({field.name}=broken))}})
""",
            rf"machine 'a' of layout 'Lab': the function for {field.name} failed: KeyError: 'milk'",
            LayoutError,
        )
        for field in fields(config)
        if field.name != "place"
    ]


SAID = {
    "packages": "()",
    "includes": "()",
    "offers": "()",
    "needs": "()",
    "links": "{}",
    "programs": "{}",
    "serves_dhcp": "False",
    "forward": "False",
    "masquerade": "()",
    "forwards": "()",
    "groups": "()",
}
_OF_ROLES = [
    Row(
        f"Role.{name}",
        f"""
class Bad(Role):
    @property
    def {name}(self):
        return broken() or {nothing}
{LAB}""",
        rf"machine 'a' of layout 'Lab': role Bad cannot say its {name}: KeyError: 'milk'",
        LayoutError,
    )
    for name, nothing in SAID.items()
]


def _refreshing(text: str) -> str:
    return f"""
armed = []
class Bad(Role):
    async def refresh(self, machine):
        if armed:
            {text}
{LAB}"""


def _arm_and(act: Callable[[Any], object]) -> Callable[[Any], object]:
    def do(lab: Any) -> object:
        type(lab).armed.append(1)
        return act(lab)

    return do


def _add(lab: Any) -> object:
    return lab.add(pytest_carthage.Machine(links={"eth0": type(lab).lan.at(".9")}), name="late")


TASK_OF_BAD = r"machine 'a' of layout 'Lab': task 'count' of role Bad \(/suite/conftest.py:\d+\): "

ROWS = [
    *_configured(V4Config),
    *_configured(V6Config),
    Row(
        "Network(v4=V4Config(domains=))",
        """
class Lab(Layout):
    lan = Network(v4=V4Config(network="10.0.0.0/24", domains=broken))
    a = Machine(links={"eth0": lan.at(".1")})
""",
        "machine 'a' of layout 'Lab': the function for domains failed: KeyError: 'milk'",
        LayoutError,
    ),
    Row(
        "Network.at(function)",
        """
class Lab(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(links={"eth0": lan.at(broken)})
""",
        "machine 'a' of layout 'Lab': the function for address failed: KeyError: 'milk'",
        LayoutError,
    ),
    Row(
        "Network.at(secondary_addresses=)",
        """
class Lab(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(links={"eth0": lan.at(".1", secondary_addresses=broken)})
""",
        "machine 'a' of layout 'Lab': the function for secondary_addresses failed: KeyError",
        LayoutError,
    ),
    *_OF_ROLES,
    Row(
        "Role.includes of an image's role",
        """
class Bad(Role):
    @property
    def packages(self):
        return broken()
class Lab(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(Image.debian("bookworm").with_(Bad()), links={"eth0": lan.at(".1")})
""",
        "role Bad cannot say its packages: KeyError: 'milk'",
        LayoutError,
    ),
    *(
        Row(
            f"{kind}_task, {form.partition(' ')[0]}",
            TASK.replace("KIND", kind).replace("DEF", form)
            + LAB.replace("Machine(", 'Machine(Image.debian("bookworm"), '),
            TASK_OF_BAD + "KeyError: 'milk'",
        )
        for kind in ("machine", "filesystem")
        for form in ("def", "async def")
    ),
    Row(
        "machine_task whose command fails",
        """
class Bad(Role):
    @machine_task("count")
    async def count(self, machine):
        await machine.run("exit 3")  # fails
"""
        + LAB,
        TASK_OF_BAD + r"machine 'a' of layout 'Lab': 'exit 3' exited with status 3 .* \(at /suite",
    ),
    Row(
        "machine_task that uses a library",
        """
import ipaddress
class Bad(Role):
    @machine_task("count")
    async def count(self, machine):
        ipaddress.ip_address("milk")  # fails
"""
        + LAB,
        TASK_OF_BAD + "ValueError: 'milk' does not appear to be an IPv4 or IPv6 address",
    ),
    Row(
        "machine_task that lacks a file",
        """
class Bad(Role):
    @machine_task("count")
    def count(self, machine):
        open("/no/such/milk")  # fails
"""
        + LAB,
        TASK_OF_BAD + r"\[Errno 2\] No such file or directory: '/no/such/milk'",
    ),
    Row(
        "machine_task that gives up by pytest.fail",
        """
import pytest
class Bad(Role):
    @machine_task("count")
    def count(self, machine):
        pytest.fail("no milk")  # fails
"""
        + LAB,
        TASK_OF_BAD + "Failed: no milk",
    ),
    Row(
        "machine_task that exits",
        """
import sys
class Bad(Role):
    @machine_task("count")
    async def count(self, machine):
        sys.exit("no milk")  # fails
"""
        + LAB,
        TASK_OF_BAD + "SystemExit: no milk",
    ),
    Row(
        "Role.welcome",
        """
class Bad(Role):
    async def welcome(self, own, newcomer):
        broken()
"""
        + LAB,
        "role Bad of machine 'a' could not welcome machine 'b': KeyError: 'milk'",
    ),
    Row(
        "Role.refresh of a machine that starts again",
        _refreshing("broken()"),
        "machine 'a' of layout 'Lab': refresh of role Bad failed: KeyError: 'milk'",
        act=_arm_and(lambda lab: lab.a.restart()),
    ),
    Row(
        "Role.refresh when a machine is added",
        _refreshing("broken()"),
        "machine 'a' of layout 'Lab': refresh of role Bad failed: KeyError: 'milk'",
        act=_arm_and(_add),
    ),
    Row(
        "Role.refresh when a machine is removed",
        _refreshing("broken()"),
        "machine 'a' of layout 'Lab': refresh of role Bad failed: KeyError: 'milk'",
        act=_arm_and(lambda lab: lab.remove("b")),
    ),
    Row(
        "Role.refresh whose command fails on a machine that runs",
        _refreshing('await machine.run("exit 3")  # fails'),
        "machine 'a' of layout 'Lab': refresh of role Bad failed: machine 'a' .*'exit 3' exited",
        act=_arm_and(_add),
    ),
    Row(
        "Role.refresh that lacks a file",
        _refreshing('open("/no/such/milk")  # fails'),
        "machine 'a' of layout 'Lab': refresh of role Bad failed: .*'/no/such/milk'",
        act=_arm_and(_add),
    ),
    *(
        Row(
            f"subscriber, {form.partition(' ')[0]}",
            f"""
{form} notify(event):
    broken()
class Lab(Layout):
    lan = Network("10.0.0.0/24")
    a = Machine(links={{"eth0": lan.at(".1")}})
    subscribers = [notify]
""",
            "subscriber notify of LinkResolved failed: KeyError: 'milk'",
        )
        for form in ("def", "async def")
    ),
]


def _line(source: str) -> int:
    lines = (HEAD + source).splitlines()
    own = [number for number, line in enumerate(lines, 1) if "# fails" in line]
    return own[-1]


def _live(row: Row) -> None:
    """Have a row's layout come to life, and do what fails."""
    names = _declared(row.source)
    layout: type[Layout] = names["Lab"]
    if "armed" in names:
        layout.armed = names["armed"]  # type: ignore[attr-defined]
    with testing.live(layout, answers={"exit 3": 3}) as lab:
        assert row.act is not None, "it came to life"
        row.act(lab)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_failure_of_an_authors_function_is_told_with_its_line(row: Row) -> None:
    with pytest.raises(row.kind, match=f"(?s){row.who}") as caught:
        _live(row)
    line = _line(row.source)
    assert f"{FILE}:{line}" in str(caught.value)
    cause = caught.value.__cause__
    assert cause is not None
    assert not isinstance(cause, LayoutError | CreationError)
    told = {(entry.filename, entry.lineno) for entry in traceback.extract_tb(cause.__traceback__)}
    assert (FILE, line) in told


def test_failure_of_a_third_partys_provider_names_the_machine_and_the_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = _declared(LAB.replace("Bad()", ""))

    async def create(provider: object, planned: object, context: object) -> object:
        return names["broken"]()

    monkeypatch.setattr(testing.FakeProvider, "create", create)
    who = "machine '[ab]' of layout 'Lab': target 'netns' failed: KeyError: 'milk' "
    with pytest.raises(CreationError, match=who) as caught, testing.live(names["Lab"]):
        pass
    assert f"(at {FILE}:4)" in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


def test_failure_of_making_and_of_checking_a_provider_names_the_target() -> None:
    names = _declared(LAB.replace("Bad()", ""))
    plan = make_plan(names["Lab"])

    class Unsure(testing.FakeProvider):
        def check(self, plan: object = None) -> Any:
            return names["broken"]()

    for factory, who in (
        (names["broken"], "making its provider"),
        (lambda: Unsure(testing.World(), kind="netns"), "its check"),
    ):
        with pytest.raises(CreationError) as caught:
            check(plan, Providers({"netns": factory}))
        assert str(caught.value) == (
            f"target 'netns': {who} failed: KeyError: 'milk' (at {FILE}:4)"
        )


def test_failure_of_a_fake_answer_names_the_machine_and_the_command() -> None:
    names = _declared(LAB.replace("Bad()", ""))
    with testing.live(names["Lab"], answers={"price *": names["broken"]}) as lab:
        with pytest.raises(FabricError) as caught:
            lab.a.run("price milk")
        assert str(caught.value) == (
            f"fake machine 'a': the answer to 'price milk' failed: KeyError: 'milk' (at {FILE}:4)"
        )
        assert isinstance(caught.value.__cause__, KeyError)


def test_refresh_that_fails_leaves_the_others_refreshed_and_is_told_of() -> None:
    source = """
class Bad(Role):
    async def refresh(self, machine):
        if machine.name == "a":
            broken()
        await machine.write_text("/srv/refreshed", "")
"""
    names = _declared(source + LAB.replace('lan.at(".2")}', 'lan.at(".2")}, roles=[Bad()]'))
    with testing.live(names["Lab"]) as lab:
        with pytest.raises(CreationError, match=r"machine 'a' .*refresh of role Bad failed"):
            _add(lab)
        assert lab.b.exists("/srv/refreshed")
        assert lab["late"].run("true").ok  # it is there, all the same


def test_refresh_of_a_machine_that_is_off_is_not_tried() -> None:
    names = _declared(_refreshing("broken()"))
    layout = names["Lab"]
    layout.armed = names["armed"]
    with testing.live(layout) as lab:
        lab.a.stop()
        layout.armed.append(1)
        _add(lab)
        lab.remove("late")


def test_line_of_an_exception_is_the_innermost_of_the_authors() -> None:
    names = _declared("""
def outer():
    return inner()
def inner():
    return sorted([3, ""])
def library():
    import json
    return json.loads("{")
""")
    for function, line in ((names["outer"], 10), (names["library"], 13)):
        with pytest.raises((TypeError, ValueError)) as caught:
            function()
        assert str(culprit(caught.value)) == f"{FILE}:{line}"


def test_function_that_cannot_even_be_called_is_to_blame_where_it_stands() -> None:
    names = _declared("")
    error = TypeError("takes no argument")
    assert str(culprit(error, names["broken"])) == f"{FILE}:2"
    assert culprit(error) is None
    assert described(error, len) == "TypeError: takes no argument"
    assert culprit(error, testing.live) is None


def test_error_of_ours_and_of_the_system_are_told_without_their_kind() -> None:
    assert described(OSError(2, "No such file")) == "[Errno 2] No such file"
    assert described(CreationError("machine 'a': no")) == "machine 'a': no"
    assert described(KeyError()) == "KeyError"
    group = BaseExceptionGroup("two", [ValueError("first"), ValueError("second")])
    assert described(group) == "ValueError: first"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_who_ends_everything_is_not_taken_for_a_failure(error: BaseException) -> None:
    with pytest.raises(type(error)), Authored("it", CreationError):
        raise error
