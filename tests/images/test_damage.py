"""Images whose layers are damaged: they are built again, and who uses them goes on."""

from __future__ import annotations

import asyncio
import os

import pytest

from pytest_carthage.images.workshop import copied
from pytest_carthage.portal import Portal
from pytest_carthage.store.checking import damages
from pytest_carthage.store.layer import META

from .conftest import Lab, Module

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

TASKS = """
@dataclass(frozen=True, slots=True, kw_only=True)
class Greeter(Role):
    @filesystem_task("greet")
    def greet(self, fs):
        fs.write_text("/etc/greeting", "hello\\n")

    @filesystem_task("finish")
    def finish(self, fs):
        fs.run("cp /etc/greeting /etc/finished")

image = Image.debian("bookworm", name="small").with_(Greeter())
"""


@pytest.mark.parametrize("ruin", ["truncated", "gone", "a list"])
def test_damaged_layer_is_made_anew_below_others(lab: Lab, module: Module, ruin: str) -> None:
    image = module(TASKS)["image"]
    first = lab.build(image)  # type: ignore[arg-type]
    greet = first.layers[1]

    async def use() -> tuple[str, str]:
        """What a user of the image sees before and after."""
        async with copied(
            lab.store, first.lower, name="user", who="user", portal=lab.portal
        ) as files:
            before = await files.read_text("/etc/greeting")
            path = greet.path / META
            if ruin == "truncated":
                os.truncate(path, 30)
            elif ruin == "gone":
                path.unlink()
            else:
                path.write_text("[]")
            lab.notes.clear()
            await asyncio.to_thread(rebuild)
            return before, await files.read_text("/etc/greeting")

    def rebuild() -> None:
        portal, lab.portal = lab.portal, Portal()
        try:
            again = lab.build(image)  # type: ignore[arg-type]
            assert [layer.key for layer in again.layers] == [layer.key for layer in first.layers]
            assert (again.layers[1].tree / "etc/greeting").read_text() == "hello\n"
        finally:
            lab.portal.close()
            lab.portal = portal

    assert lab.portal.call(use) == ("hello\n", "hello\n")
    (aside,) = lab.store.folder("damaged").iterdir()
    (note,) = [note for note in lab.notes if "damaged" in note]
    assert note.startswith("layer 'greet' was damaged (layer.json")
    assert note.endswith(f"): made anew, and set aside as {aside}")
    assert list(damages(lab.store)) == []


def test_half_a_tree_is_found_by_the_count_of_the_build(lab: Lab, module: Module) -> None:
    built = lab.build(module(TASKS)["image"])  # type: ignore[arg-type]
    greet = built.layers[1]
    assert greet.meta.entries == 2
    (greet.tree / "etc/greeting").write_text("")
    (damage,) = damages(lab.store)
    assert (damage.key, damage.images) == (greet.key, ("small",))
