"""What the images of a layout are called."""

from __future__ import annotations

from pytest_carthage import Image, Layout, Machine, Network
from pytest_carthage.planning import extend_plan, make_plan
from pytest_carthage.planning.images import images_of
from pytest_carthage.roles import Nginx

shared = Image.debian("bookworm", packages=["less"])
named = Image.debian("bookworm", packages=["nano"], name="editor")


class Site(Layout):
    lan = Network("10.0.0.0/24")
    debian = Image.debian("bookworm")
    server = debian.with_(env={"A": "1"})
    tools = shared
    attribute = named
    web = Machine(server, roles=[Nginx()])
    other_web = Machine(server, roles=[Nginx()])
    db = Machine(server)
    desk = Machine(shared)
    desk_too = Machine(named)
    spare = Machine(Image.debian("bookworm", packages=["man-db"]))
    spare_too = Machine(Image.debian("bookworm", packages=["mandoc"]))
    bare = Machine()


def names(layout: type[Layout]) -> dict[str, str | None]:
    machines = make_plan(layout).machines
    return {name: one.image.name if one.image else None for name, one in machines.items()}


def test_image_is_called_as_its_attribute() -> None:
    called = names(Site)
    assert called["db"] == "server"
    assert called["desk"] == "tools"
    assert called["desk_too"] == "attribute", "also where it has a name of its own"
    assert called["bare"] is None
    plan = make_plan(Site)
    assert {image.name for image in plan.images.values()} == {*called.values()} - {None}
    assert list(images_of(plan))[:4] == ["debian", "server", "tools", "attribute"]
    assert [image.name for image in images_of(plan).values()] == list(images_of(plan))


def test_image_of_a_machines_roles_says_for_whom() -> None:
    called = names(Site)
    assert called["web"] == called["other_web"] == "server for web, other_web"


def test_images_without_an_attribute_are_told_apart() -> None:
    called = names(Site)
    assert called["spare"] == "debian-bookworm"
    assert called["spare_too"] == "debian-bookworm for spare_too"


def test_image_of_two_layouts_has_its_name_in_each() -> None:
    class Office(Layout):
        desktop = shared
        desk = Machine(shared)

    assert names(Office) == {"desk": "desktop"}
    assert names(Site)["desk"] == "tools"
    assert shared.name == "debian-bookworm"


def test_machine_that_is_added_knows_the_names() -> None:
    plan = make_plan(Site)
    extended, late = extend_plan(plan, "late", Machine(Site.debian))
    assert late.image is not None
    assert late.image.name == "debian"
    _, guest = extend_plan(extended, "guest", Machine(Site.debian, roles=[Nginx()]))
    assert guest.image is not None
    assert guest.image.name == "debian for guest"


def test_image_is_called_as_the_variable_unless_it_has_a_name() -> None:
    assert shared.called("less").name == "less"
    assert named.called("nano").name == "editor"
    assert Image.oci("localhost/a:1").called("a").name == "a"
    assert Image.rootfs("files/root.tar.gz").called("root").name == "root"
    assert Image.containerfile("web/Containerfile").called("page").name == "page"
