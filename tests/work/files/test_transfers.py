"""Files of a machine: read, written, copied, and what is told where that cannot be."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_carthage import Layout, Machine, Network, TaskError, testing
from pytest_carthage.live.machines.machine import MachineHandle
from pytest_carthage.model.keys.inputs import Inputs
from pytest_carthage.testing.machine import FakeMachine


class Lab(Layout):
    lan = Network("10.0.0.0/24")
    web = Machine(links={"eth0": lan.at(".1")})


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with testing.live(Lab) as lab:
        yield lab


@pytest.fixture
def web(lab: Lab) -> MachineHandle:
    return lab.web


@pytest.fixture
def fake(lab: Lab) -> FakeMachine:
    return testing.fakes(lab)["web"]


def test_text_is_read_as_it_was_written(web: MachineHandle, fake: FakeMachine) -> None:
    web.write_text("/etc/motd", "grüß\n", mode=0o600)
    assert web.read_text("/etc/motd") == "grüß\n"
    assert stat.S_IMODE(int(fake.files.stat("/etc/motd")["mode"])) == 0o600
    web.write_text("/etc/motd", "short")
    assert web.read_text("/etc/motd") == "short"
    assert web.exists("/etc/motd")
    assert not web.exists("/etc/motto")
    assert not web.exists("/etc/motd/below")


def test_large_file_is_whole_both_ways(web: MachineHandle, tmp_path: Path) -> None:
    data = os.urandom((3 << 20) + 17)
    (tmp_path / "data").write_bytes(data)
    web.put(tmp_path / "data", "/srv/deep/er/data")
    assert web.get("/srv/deep/er/data", tmp_path / "back").read_bytes() == data


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/nowhere", FileNotFoundError),
        ("/etc/hosts/below", NotADirectoryError),
    ],
)
def test_file_that_cannot_be_read_is_pythons_error_with_who_it_is_of(
    web: MachineHandle, path: str, error: type[OSError]
) -> None:
    with pytest.raises(error) as caught:
        web.read_text(path)
    assert caught.value.filename == path
    assert str(caught.value.strerror).startswith("machine 'web' of layout 'Lab': ")


def test_file_goes_into_a_folder_by_its_own_name(
    web: MachineHandle, fake: FakeMachine, tmp_path: Path
) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o750)
    web.put(tmp_path / "run.sh", "/usr/local/bin/")
    assert stat.S_IMODE(int(fake.files.stat("/usr/local/bin/run.sh")["mode"])) == 0o750
    web.put(tmp_path / "run.sh", "/usr/local/bin/other", mode=0o700)
    assert stat.S_IMODE(int(fake.files.stat("/usr/local/bin/other")["mode"])) == 0o700


def test_folder_goes_with_links_and_modes_and_without_caches(
    web: MachineHandle, fake: FakeMachine, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "sub").chmod(0o700)
    (site / "sub" / "page").write_text("page")
    (site / "__pycache__").mkdir()
    (site / "__pycache__" / "x.pyc").write_text("")
    (site / "link").symlink_to("sub/page")
    (site / "dangling").symlink_to("/nowhere")
    (site / "empty").mkdir()
    web.put(site, "/srv/site")
    assert sorted(path for path in fake.files.paths() if path.startswith("/srv/site/")) == [
        "/srv/site/dangling",
        "/srv/site/empty",
        "/srv/site/link",
        "/srv/site/sub",
        "/srv/site/sub/page",
    ]
    assert fake.files.target("/srv/site/link") == "sub/page"
    assert fake.files.target("/srv/site/dangling") == "/nowhere"
    assert stat.S_IMODE(int(fake.files.stat("/srv/site/sub")["mode"])) == 0o700
    assert web.read_text("/srv/site/link") == "page"


def test_files_keep_their_times_attributes_and_hard_links(
    web: MachineHandle, fake: FakeMachine, tmp_path: Path
) -> None:
    site = tmp_path / "dated"
    (site / "sub").mkdir(parents=True)
    (site / "sub/a").write_text("a")
    (site / "b").hardlink_to(site / "sub/a")
    (site / "link").symlink_to("b")
    os.setxattr(site / "sub/a", "user.note", b"\xff")
    for path in (site / "sub/a", site / "sub", site / "link"):
        os.utime(path, ns=(1, 981_173_106_123_456_789), follow_symlinks=False)
    web.put(site, "/srv/dated", user="shop")
    files = fake.files
    assert files.stat("/srv/dated/b")["mtime_ns"] == 981_173_106_123_456_789
    assert files.stat("/srv/dated/sub")["mtime_ns"] == 981_173_106_123_456_789
    assert files.attributes("/srv/dated/b") == {"user.note": b"\xff"}
    assert files.owner("/srv/dated/sub/a") == "shop"
    files.write("/srv/dated/b", "changed")  # one file of two names
    assert files["/srv/dated/sub/a"] == "changed"
    web.put(site, "/srv/dated", user="shop")  # again, over it
    assert files["/srv/dated/sub/a"] == "a"
    files.remove("/srv/dated/b")
    assert files["/srv/dated/sub/a"] == "a"


def test_folder_that_is_there_keeps_its_time(
    web: MachineHandle, fake: FakeMachine, tmp_path: Path
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/a").write_text("x")
    os.utime(tmp_path / "conf", ns=(1, 1))
    web.put(f"{tmp_path}/conf/", "/etc")
    assert fake.files.stat("/etc")["mtime_ns"] > 1


def test_file_has_its_holes_and_its_time_both_ways(web: MachineHandle, tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        file.seek(32 << 20)
        file.write(b"x" * 100)
        file.truncate(64 << 20)
    os.utime(tmp_path / "disk", ns=(1, 981_173_106_123_456_789))
    (tmp_path / "disk").chmod(0o600)
    web.put(tmp_path / "disk", "/srv/disk")
    back = web.get("/srv/disk", tmp_path / "back")
    assert back.read_bytes() == (tmp_path / "disk").read_bytes()
    assert back.stat().st_blocks * 512 < 1 << 20
    assert back.stat().st_mtime_ns == 981_173_106_123_456_789
    assert stat.S_IMODE(back.stat().st_mode) == 0o600
    (tmp_path / "nothing").write_bytes(b"")
    os.truncate(tmp_path / "nothing", 1 << 20)
    web.put(tmp_path / "nothing", "/srv/nothing")
    assert web.get("/srv/nothing", tmp_path / "none").read_bytes() == bytes(1 << 20)


def test_attribute_that_cannot_be_had_is_refused_by_name(
    web: MachineHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **fields: object) -> None:
        raise OSError(errno.ENOTSUP, "no attributes here")

    (tmp_path / "noted").write_text("x")
    os.setxattr(tmp_path / "noted", "user.note", b"x")
    asked: Any = web.aio.channel
    monkeypatch.setitem(asked._channel._handlers, "settle", refuse)
    with pytest.raises(OSError, match=r"the attributes user\.note of .*/noted cannot be had there"):
        web.put(tmp_path / "noted", "/srv/noted")
    os.removexattr(tmp_path / "noted", "user.note")
    # a target of others may know of no times
    for name in ("settle", "link"):
        monkeypatch.delitem(asked._channel._handlers, name)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/a").write_text("x")
    (tmp_path / "plain/b").hardlink_to(tmp_path / "plain/a")
    web.put(tmp_path / "plain", "/srv/plain")
    assert web.read_text("/srv/plain/b") == "x"
    os.setxattr(tmp_path / "noted", "user.note", b"x")
    with pytest.raises(OSError, match=r"try: a copy without them \(cp, without -a\)"):
        web.put(tmp_path / "noted", "/srv/noted")


def test_get_of_a_folder_is_refused_by_what_it_is(web: MachineHandle, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="get takes a file, and this is a folder"):
        web.get("/etc", tmp_path / "etc")
    assert not (tmp_path / "etc").exists()


def test_file_that_is_no_text_is_read_and_comes_out_as_it_was(
    web: MachineHandle, tmp_path: Path
) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9 = \xfc\n")
    web.put(tmp_path / "latin", "/etc/latin")
    text = web.read_text("/etc/latin")
    assert text == "caf\udce9 = \udcfc\n"
    web.write_text("/etc/latin", text.replace("=", "is"))
    assert web.get("/etc/latin", tmp_path / "back").read_bytes() == b"caf\xe9 is \xfc\n"


@pytest.mark.parametrize(
    ("source", "target", "path"),
    [
        ("site", "/srv/site", "/srv/site/etc/app.conf"),
        ("site", "/srv/", "/srv/site/etc/app.conf"),
        ("site/", "/srv/", "/srv/etc/app.conf"),
        ("site/", "/srv/new", "/srv/new/etc/app.conf"),
        ("site/", "/srv/new/", "/srv/new/etc/app.conf"),
        ("site", "/", "/etc/app.conf"),
        ("site/", "/", "/etc/app.conf"),
    ],
)
def test_folder_goes_where_a_slash_at_the_end_says(
    web: MachineHandle, tmp_path: Path, source: str, target: str, path: str
) -> None:
    (tmp_path / "site" / "etc").mkdir(parents=True)
    (tmp_path / "site" / "etc" / "app.conf").write_text("x")
    web.write_text("/etc/hostname", "stays")
    web.put(f"{tmp_path}/{source}", target)
    assert web.read_text(path) == "x"
    assert web.read_text("/etc/hostname") == "stays"


def test_file_whose_name_ends_like_a_folders_is_refused(web: MachineHandle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="machine 'web' of layout 'Lab': no folder on the"):
        web.put(f"{tmp_path}/file/", "/srv/")


def test_pipe_is_refused_and_not_waited_for(web: MachineHandle, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        OSError, match="machine 'web' of layout 'Lab': put takes files and folders"
    ) as caught:
        web.put(tmp_path / "pipe", "/srv/pipe")
    assert caught.value.errno == errno.EINVAL
    assert not web.exists("/srv/pipe")


def test_source_that_is_not_there_is_told_with_its_first_place(
    web: MachineHandle, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="no such file on the host") as caught:
        web.put(tmp_path / "nowhere", "/srv/x")
    assert caught.value.filename == str(tmp_path / "nowhere")


def test_get_goes_into_a_folder_or_to_a_name(web: MachineHandle, tmp_path: Path) -> None:
    web.write_text("/srv/report", "ok")
    assert web.get("/srv/report", tmp_path) == tmp_path / "report"
    assert web.get("/srv/report", tmp_path / "named") == tmp_path / "named"
    assert (tmp_path / "named").read_text() == "ok"


def test_get_of_what_is_not_there_leaves_the_file_that_was(
    web: MachineHandle, tmp_path: Path
) -> None:
    (tmp_path / "report").write_text("before")
    with pytest.raises(FileNotFoundError):
        web.get("/srv/no-report", tmp_path / "report")
    assert (tmp_path / "report").read_text() == "before"


def test_source_that_was_looked_for_is_remembered_even_where_it_was_not(
    web: MachineHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = Inputs(tmp_path)
    monkeypatch.setitem(web.aio.__dict__, "inputs", inputs)
    (tmp_path / "there").write_text("x")
    web.put(tmp_path / "there", "/srv/there")
    with pytest.raises(FileNotFoundError):
        web.put(tmp_path / "not-there", "/srv/x")
    inputs.settle()
    assert set(inputs.found) == {"there", "not-there"}
    assert inputs.found["not-there"] == ""


# templates


def test_template_is_written_with_variables_and_the_files_own_mode(
    web: MachineHandle, fake: FakeMachine, tmp_path: Path
) -> None:
    source = tmp_path / "site.j2"
    source.write_text("port = {{ port }}\n{% include 'part.j2' %}")
    (tmp_path / "part.j2").write_text("{% for n in names %}{{ n }};{% endfor %}\n")
    source.chmod(0o640)
    web.template(source, "/etc/site/site.conf", variables={"port": 80, "names": ["a", "b"]})
    assert web.read_text("/etc/site/site.conf") == "port = 80\na;b;\n"
    assert stat.S_IMODE(int(fake.files.stat("/etc/site/site.conf")["mode"])) == 0o640


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n{{ prot }}\n", r"site\.j2:2: 'prot' is undefined; the variables are: port; try: temp"),
        ("{{ port.x.y }}", r"site\.j2:1: .* has no attribute 'x'; the variables are: port"),
        ("a\nb\n{% if %}", r"site\.j2:3: Expected an expression"),
        ("{% include 'no.j2' %}", r"site\.j2: there is no .*/no\.j2$"),
        ("\n\n{{ 1 / 0 }}", r"site\.j2:3: ZeroDivisionError: division by zero$"),
        ("{{ port | nofilter }}", r"site\.j2:1: No filter named 'nofilter'"),
    ],
)
def test_template_that_is_wrong_is_told_with_its_line_and_writes_nothing(
    web: MachineHandle, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "site.j2").write_text(text)
    with pytest.raises(TaskError, match=rf"^template {tmp_path}/{message}"):
        web.template(tmp_path / "site.j2", "/etc/wrong.conf", variables={"port": 80})
    assert not web.exists("/etc/wrong.conf")


def test_template_without_variables_says_that_there_are_none(
    web: MachineHandle, tmp_path: Path
) -> None:
    (tmp_path / "site.j2").write_text("{{ port }}")
    with pytest.raises(TaskError, match="the variables are: none; try: "):
        web.template(tmp_path / "site.j2", "/etc/wrong.conf")
