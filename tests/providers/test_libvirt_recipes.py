"""Memory of a recipe's first boot, kept for later machines: made once, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_carthage import Vm
from pytest_carthage.errors import CreationError, FabricError
from pytest_carthage.images.exports.disks.values import BootDisk
from pytest_carthage.providers.libvirt import LibvirtProvider, clones, recipes
from pytest_carthage.providers.libvirt.clones import Memory
from pytest_carthage.providers.libvirt.memory import Saved
from pytest_carthage.providers.libvirt.recipes import Recipe
from pytest_carthage.providers.libvirt.ways import Entry
from pytest_carthage.store.root import Store

XML = '<domain><name>web</name><devices><disk><source file="/x"/></disk></devices></domain>'


class Service:
    """Stands for a libvirtd of a version."""

    def __init__(self, version: int = 7) -> None:
        self._connection = SimpleNamespace(getVersion=lambda: version, getLibVersion=lambda: 9)
        self.held: list[Path] = []

    async def call(self, function: Callable[[Any, Any], Any]) -> Any:
        return function(None, self._connection)

    async def hold(self, folder: Path) -> None:
        self.held.append(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "images")
    made.prepare()
    return made


@pytest.fixture
def recipe(store: Store, tmp_path: Path) -> Recipe:
    (tmp_path / "base").mkdir()
    system = tmp_path / "tree/usr/lib/systemd"
    system.mkdir(parents=True)
    (system / "systemd").touch()
    image = SimpleNamespace(name="debian")
    built: Any = SimpleNamespace(
        store=store, image=image, layers=[SimpleNamespace(key="top")], lower=(tmp_path / "tree",)
    )
    planned: Any = SimpleNamespace(name="web", command=None, env={}, init="systemd")
    base = BootDisk(
        key="base",
        folder=tmp_path / "base",
        path=tmp_path / "base/disk",
        format="raw",
        kernel=tmp_path / "kernel",
        initrd=None,
        append="quiet",
        has_init=True,
    )
    return Recipe(
        built=built,
        base=base,
        planned=planned,
        plan=None,  # type: ignore[arg-type]  # a model that is not booted needs none
        vm=Vm(),
        domain=lambda places, words: XML,
    )


class Models:
    """Boots nothing, and counts how often it should have."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None

    async def boot(
        self,
        recipe: Recipe,
        service: object,
        folder: Path,
        channel: object,
        work: Path,
        note: object,
    ) -> None:
        self.count += 1
        await asyncio.sleep(0.05)
        (work / "disk").write_bytes(b"disk")
        (work / "memory").write_bytes(Saved(work, 0, b"").head("<domain/>") + b"pages")
        (work / "ram").write_bytes(b"ram")
        (work / "left").write_text("nginx.service\nweb.service")
        if self.error is not None:
            raise self.error


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    made = Models()
    monkeypatch.setattr(clones, "boot_model", made.boot)
    return made


def _ensure(recipe: Recipe, service: Service | None = None) -> Coroutine[Any, Any, Memory]:
    return clones.ensure_memory(
        recipe,
        service or Service(),  # type: ignore[arg-type]  # it says which version it is
        emulator="qemu",
        folder=Path("/nowhere"),
        channel=lambda path: None,  # type: ignore[arg-type, return-value]  # of no model
        note=lambda text: None,
    )


def test_memory_of_a_recipe_is_made_once_for_all_who_want_it(
    recipe: Recipe, models: Models
) -> None:
    async def go() -> list[Memory]:
        return await asyncio.gather(*(_ensure(recipe) for _ in range(3)))

    first, *others = asyncio.run(go())
    assert models.count == 1
    assert all(other.disk.path == first.disk.path for other in others)
    assert first.disk.format == "qcow2"
    assert first.held == (recipe.base.folder, first.disk.folder)
    assert first.saved.path.read_bytes().endswith(b"pages")


def test_memory_is_found_by_the_next_process(
    recipe: Recipe, models: Models, tmp_path: Path
) -> None:
    asyncio.run(_ensure(recipe))
    again: Any = SimpleNamespace(**{**vars(recipe.built), "store": Store(tmp_path / "images")})
    asyncio.run(_ensure(replace(recipe, built=again)))
    assert models.count == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda recipe: replace(recipe, base=replace(recipe.base, key="other")),
        lambda recipe: replace(recipe, domain=lambda places, words: XML.replace("disk", "rng")),
        lambda recipe: replace(
            recipe, planned=SimpleNamespace(**{**vars(recipe.planned), "env": {"A": "b"}})
        ),
    ],
    ids=["disk", "hardware", "env"],
)
def test_memory_of_another_recipe_is_another_one(
    recipe: Recipe, models: Models, change: Callable[[Recipe], Recipe]
) -> None:
    first = asyncio.run(_ensure(recipe))
    second = asyncio.run(_ensure(change(recipe)))
    assert models.count == 2
    assert first.disk.path != second.disk.path


def test_memory_of_another_version_of_qemu_is_not_taken(recipe: Recipe, models: Models) -> None:
    asyncio.run(_ensure(recipe, Service(7)))
    asyncio.run(_ensure(recipe, Service(8)))
    assert models.count == 2


def test_model_that_fails_leaves_nothing_and_is_tried_again(
    recipe: Recipe, models: Models, store: Store
) -> None:
    models.error = FabricError("no room")
    with pytest.raises(FabricError, match="no room"):
        asyncio.run(_ensure(recipe))
    assert list(store.disks) == []
    assert list(store.folder("work").iterdir()) == []
    models.error = None
    asyncio.run(_ensure(recipe))
    assert len(list(store.disks)) == 1


def test_memory_that_is_cut_off_is_made_anew(recipe: Recipe, models: Models) -> None:
    first = asyncio.run(_ensure(recipe))
    first.saved.path.write_bytes(first.saved.path.read_bytes()[:-3])
    again = asyncio.run(_ensure(recipe))
    assert models.count == 2
    assert again.saved.path.read_bytes().endswith(b"pages")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda recipe: recipe, ""),
        (lambda recipe: replace(recipe, vm=Vm(tpm=True)), "its TPM would be another one's"),
        (lambda recipe: replace(recipe, vm=Vm(firmware="uefi")), "its firmware is uefi"),
        (lambda recipe: replace(recipe, vm=Vm(xml="<devices/>")), "it has XML of its own"),
        (
            lambda recipe: replace(recipe, base=replace(recipe.base, kernel=None)),
            "its disk brings the kernel",
        ),
        (
            lambda recipe: replace(recipe, base=replace(recipe.base, seed="cloud-init")),
            "its disk brings the kernel",
        ),
        (
            lambda recipe: replace(recipe, base=replace(recipe.base, has_init=False)),
            "it has no systemd, which would start the rest",
        ),
    ],
)
def test_machine_that_cannot_be_a_clone_boots(
    recipe: Recipe, change: Callable[[Recipe], Recipe], why: str
) -> None:
    assert recipes.why_not(change(recipe)) == why


def test_machine_boots_and_says_why_where_no_memory_could_be_kept(
    recipe: Recipe, models: Models
) -> None:
    models.error = FabricError("no room\nand more")
    notes = []
    context: Any = SimpleNamespace(note=lambda name, text: notes.append(text))
    places: Any = SimpleNamespace(folder=Path("/nowhere/web"), disk=Path("/nowhere/disk"))

    async def cloned() -> bool:
        return await provider._cloned(None, recipe, places, context, Service())  # type: ignore[arg-type]

    provider = LibvirtProvider()
    assert [asyncio.run(cloned()) for _ in range(2)] == [False, False]
    assert models.count == 1
    assert notes[-1] == "boots, since it cannot be a clone: no room"


def test_machine_that_cannot_take_the_memory_boots_from_the_disk_of_its_image(
    recipe: Recipe, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    notes: list[str] = []

    class Machine:
        async def start_as_clone(self, memory: Memory) -> None:
            raise CreationError("machine 'web': another processor")

    def new_disk(path: Path, *, above: BootDisk) -> None:
        made.append(above.key)

    monkeypatch.setattr("pytest_carthage.providers.libvirt.disks.new_disk", new_disk)
    context: Any = SimpleNamespace(note=lambda name, text: notes.append(text))
    places: Any = SimpleNamespace(folder=Path("/nowhere/web"), disk=Path("/nowhere/disk"))
    machine: Any = Machine()
    service: Any = Service()
    provider = LibvirtProvider()
    assert not asyncio.run(provider._cloned(machine, recipe, places, context, service))
    assert made[-1] == "base"
    assert notes[-1] == "boots, since it cannot be a clone: machine 'web': another processor"


@pytest.mark.parametrize(
    ("vm", "lacks"),
    [
        (Vm(graphics=True), {}),
        (Vm(graphics=True, firmware="uefi"), {"snapshots": 'on=Vm(firmware="bios")'}),
    ],
)
def test_machine_says_that_uefi_has_no_snapshots_and_how_it_has_them(
    vm: Vm, lacks: dict[str, str], tmp_path: Path
) -> None:
    assert _machine(vm, tmp_path).lacks == lacks


def _machine(vm: Vm, folder: Path) -> Any:
    planned: Any = SimpleNamespace(name="web", on=vm, env={}, init=None, ready_timeout_s=1)
    context: Any = SimpleNamespace(plan=SimpleNamespace(layout="Shop"), fabric=None)
    service: Any = SimpleNamespace(connection=SimpleNamespace(listen=lambda name, hear: None))
    places: Any = SimpleNamespace(log=folder / "log", folder=folder)
    entry = Entry(kinds=("agent",))
    identity: Any = None
    return LibvirtProvider()._machine(planned, context, service, identity, places, entry)


def test_systemd_is_asked_again_where_who_answers_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def state(limit_s: float, channel: Any) -> str:
        asked.append(channel)
        if len(asked) < 3:
            raise FabricError("it is gone")
        return "running"

    async def reach() -> int:
        return len(asked)

    monkeypatch.setattr("pytest_carthage.providers.libvirt.boot.state_of_systemd", state)
    machine = _machine(Vm(), tmp_path)
    monkeypatch.setattr(machine._boot, "_answering", SimpleNamespace(open=reach))
    assert asyncio.run(machine._boot._state_of_systemd(5)) == "running"
    assert asked == [0, 1, 2]
    asked.clear()
    assert asyncio.run(machine._boot._state_of_systemd(0)) == "it is gone"
