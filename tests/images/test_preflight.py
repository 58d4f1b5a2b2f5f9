"""What keeps images from being built, found before the first is begun; in a store made by hand."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import File, Image, filesystem_task
from pytest_carthage.errors import BuildError, LockError
from pytest_carthage.images import preflight, recipe
from pytest_carthage.images.locks.lock import NAME, Ansible, Lock
from pytest_carthage.images.locks.making import locked_image
from pytest_carthage.images.policy import Policy
from pytest_carthage.store.layer import Layer
from pytest_carthage.work.debian.apt import Apt

from .handmade import Images

DEBIAN = Image.debian("bookworm", name="debian")


@filesystem_task("fetch", network=True)
async def fetch(fs: Any) -> None:
    raise AssertionError("nothing is built here")


@filesystem_task("settle")
async def settle(fs: Any) -> None:
    raise AssertionError("nothing is built here")


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path / "images")


def base_of(images: Images, image: Image = DEBIAN, **more: Any) -> Layer:
    return images.layer(recipe.base_key(image, {}), title=f"base {image.origin}", **more)


def step_of(images: Images, image: Image, number: int, below: list[Layer]) -> Layer:
    """The layer that a step of an image has made."""
    step = image.steps[number]
    declared = recipe.declared_key(step, below[-1].key)
    layer = images.layer(recipe.step_key(declared, {}), below, title=step.title, declared=declared)
    images.store.outcomes.add(declared, {}, layer.key)
    return layer


def check(images: Images, image: Image, policy: Policy, layout: str = "Lab") -> None:
    asyncio.run(
        preflight.check(
            layout,
            {"web": image},
            policy,
            note=lambda who, text: None,
            store=images.store,
        )
    )


def no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package was ever fetched, and none can be."""

    async def refuse(self: Apt, *words: object, **more: object) -> None:
        raise BuildError("packages of Debian: offline, nothing is here; try: once with a network")

    monkeypatch.setattr(Apt, "get_base", refuse)
    monkeypatch.setattr(Apt, "get", refuse)


# offline


def test_image_that_is_there_needs_nothing(images: Images) -> None:
    image = DEBIAN.with_(settle)
    step_of(images, image, 0, [base_of(images)])
    check(images, image, Policy(offline=True))


def test_base_that_is_missing_is_told_with_its_layer(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_archive(monkeypatch)
    with pytest.raises(BuildError) as caught:
        check(images, DEBIAN, Policy(offline=True))
    assert str(caught.value).splitlines() == [
        "this run is offline, and what is missing would have to be fetched:",
        "  image 'web': layer 'base debian bookworm (minbase)' is missing: packages of Debian: "
        "offline, nothing is here",
        "try: once with a network, or `pytest-carthage unbundle` of a bundle that has it",
    ]


def test_task_that_wants_the_network_is_told_and_one_that_does_not_is_built(
    images: Images,
) -> None:
    base_of(images)
    check(images, DEBIAN.with_(settle), Policy(offline=True))
    message = r"image 'web': layer 'fetch' is missing: its task \(.*test_preflight\.py:\d+\) wants"
    with pytest.raises(BuildError, match=message):
        check(images, DEBIAN.with_(settle, fetch), Policy(offline=True))


def test_image_of_a_registry_is_told(images: Images) -> None:
    image = Image.oci("docker://registry.example/team/server:1")
    message = "is missing: docker://registry.example/team/server:1 is in a registry"
    with pytest.raises(BuildError, match=re.escape(message)):
        check(images, image, Policy(offline=True))


def test_base_that_is_not_on_this_host_is_told_once_without_its_advice(
    images: Images, tmp_path: Path
) -> None:
    image = Image.rootfs(tmp_path / "nowhere.tar", name="system")
    with pytest.raises(BuildError) as caught:
        check(images, image, Policy(offline=True))
    assert str(caught.value).count("nowhere.tar is not there") == 1
    assert str(caught.value).count("try: ") == 1


def test_packages_on_what_is_no_debian_are_left_to_the_build(images: Images) -> None:
    base_of(images)  # it says nothing of a suite
    check(images, DEBIAN.with_packages("nginx"), Policy(offline=True))


def test_packages_that_are_not_here_are_told_with_their_layer(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_archive(monkeypatch)
    script = (
        "mkdir -p var/lib/dpkg usr/lib; echo VERSION_CODENAME=bookworm > usr/lib/os-release;"
        "printf 'Package: dpkg\\nStatus: install ok installed\\nArchitecture: amd64\\n'"
        " > var/lib/dpkg/status"
    )
    base_of(images, script=script)
    with pytest.raises(BuildError, match=r"layer 'install nginx' is missing: packages of Debian"):
        check(images, DEBIAN.with_packages("nginx"), Policy(offline=True))


# locked


def lock_of(images: Images, image: Image, *layers: Layer, **more: Any) -> Lock:
    built = images.built(*layers, image=image)
    fields: dict[str, Any] = {"files": {}, **more}
    path = images.store.root.parent / NAME
    return Lock(path=path, layout="Lab", images={"web": locked_image(built)}, **fields)


def test_image_that_is_as_it_was_locked_passes(images: Images) -> None:
    image = DEBIAN.with_(settle)
    base = base_of(images, packages={"bash": "5"})
    lock = lock_of(images, image, base, step_of(images, image, 0, [base]))
    check(images, image, Policy(lock=lock))
    check(images, image, Policy(lock=lock, offline=True))


def test_lock_of_another_layout_is_told_before_anything_else(images: Images) -> None:
    lock = lock_of(images, DEBIAN, base_of(images))
    message = r"^layout 'Shop': the lock .* is of another layout, 'Lab'; try: --carthage-locked=FIL"
    with pytest.raises(LockError, match=message):
        check(images, DEBIAN, Policy(lock=lock), layout="Shop")


def test_all_that_differs_is_told_at_once_and_counted(images: Images) -> None:
    base = base_of(images)
    lock = lock_of(
        images,
        DEBIAN,
        base,
        files={"gone.txt": "5f" * 32},
        ansible=Ansible(version="0.1", collections={"no.such": "1"}),
    )
    with pytest.raises(LockError) as caught:
        check(images, DEBIAN.with_(File("x", "/x")), Policy(lock=lock))
    lines = str(caught.value).splitlines()
    assert re.match(
        r"layout 'Lab': \d things differ from the lock .*, and nothing was built:", lines[0]
    )
    assert "  file gone.txt: locked 5f5f5f5f5f5f, now not there" in lines
    assert "  Ansible collection no.such: locked 1, now none" in lines
    assert any(line.startswith("  ansible-core: locked 0.1, now ") for line in lines)
    assert any(
        line.startswith("  image 'web': task 'copy x to /x' is not locked") for line in lines
    )
    assert lines[-1].startswith("try: `pytest-carthage lock` again")


def test_layer_in_the_store_that_differs_has_a_remedy_of_its_own(images: Images) -> None:
    base = base_of(images, packages={"bash": "5"})
    lock = lock_of(images, DEBIAN, base)
    base.tree.parent.joinpath("layer.json").unlink()
    images.store.remove(base.key)
    base_of(images, packages={"bash": "6"})
    message = (
        r"(?s)^layout 'Lab': one thing differs .*image 'web': package bash: locked 5, now 6\n"
        r"try: `pytest-carthage images rm debian` to have it built anew, or `pytest-carthage lock`"
    )
    with pytest.raises(LockError, match=message):
        check(images, DEBIAN, Policy(lock=lock))


def test_base_of_other_files_is_told_before_it_is_made(images: Images, tmp_path: Path) -> None:
    system = tmp_path / "system"
    (system / "etc").mkdir(parents=True)
    image = Image.rootfs(system, name="system")
    inputs = asyncio.run(recipe.base_inputs(image, images.store))
    base = images.layer(recipe.base_key(image, inputs))
    lock = lock_of(images, image, base)
    check(images, image, Policy(lock=lock))
    (system / "etc/new").touch()
    message = r"image 'web': base: .*system: not what it was when it was locked"
    with pytest.raises(LockError, match=message):
        check(images, image, Policy(lock=lock))
