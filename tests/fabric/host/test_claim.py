"""Claims: one process has what it claims, until it is released or its process ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_carthage.fabric.host.claim import claimed, is_free, take


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "work.lock"
    path.touch()
    return path


def _kernels_list() -> list[str]:
    return Path("/proc/locks").read_text().splitlines()


# taking


def test_file_that_is_claimed_is_refused_to_others_until_it_is_released(file: Path) -> None:
    with take(file):
        with pytest.raises(BlockingIOError):
            take(file)
        with pytest.raises(BlockingIOError):
            take(file, shared=True)
    take(file).release()


def test_shared_claims_are_had_together_and_keep_out_an_exclusive_one(file: Path) -> None:
    with take(file, shared=True), take(file, shared=True), pytest.raises(BlockingIOError):
        take(file)


def test_claim_released_twice_closes_nothing_of_others(file: Path, tmp_path: Path) -> None:
    claim = take(file)
    fd = claim.fd
    claim.release()
    other = os.open(tmp_path, os.O_RDONLY)
    assert other == fd  # the number is used again at once
    claim.release()
    os.fstat(other)
    os.close(other)


def test_folder_can_be_claimed_and_stays_so_where_it_is_moved(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    with take(folder):
        folder.rename(tmp_path / "two")
        with pytest.raises(BlockingIOError):
            take(tmp_path / "two", shared=True)
        with pytest.raises(FileNotFoundError):
            take(folder)


def test_file_is_made_with_these_permissions_where_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with pytest.raises(FileNotFoundError):
        take(path)
    take(path, create=0o600).release()
    assert path.stat().st_mode & 0o777 == 0o600


def test_link_is_followed_only_where_that_was_asked_for(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(OSError, match="symbolic links"):
        take(link)
    with take(link, follow=True):
        assert not is_free(file)


def test_waiting_for_what_is_removed_meanwhile_gives_what_is_there_now(file: Path) -> None:
    first = take(file)
    inodes: list[int] = []

    def wait() -> None:
        with take(file, wait=True, create=0o600) as claim:
            inodes.append(os.fstat(claim.fd).st_ino)

    waiting = threading.Thread(target=wait)
    waiting.start()
    inode = f":{file.stat().st_ino} "
    while not any("->" in row and inode in row for row in _kernels_list()):
        assert waiting.is_alive()
    file.rename(file.with_name("old"))
    first.release()
    waiting.join()
    assert inodes == [file.stat().st_ino]
    assert inodes != [file.with_name("old").stat().st_ino]


# whether it is free


def test_what_is_not_there_is_free(tmp_path: Path) -> None:
    assert is_free(tmp_path / "none")


def test_what_somebody_reads_is_free_for_readers_alone(file: Path) -> None:
    with take(file, shared=True):
        assert is_free(file, shared=True)
        assert not is_free(file)
    assert is_free(file)


def test_claim_of_a_process_that_was_killed_is_free(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pytest_carthage.fabric.host.claim import take\n"
        "claim = take(Path(sys.argv[1])); print('has it', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"has it\n"
        assert not is_free(file)
        process.kill()
        process.wait()
    assert is_free(file)


# waiting for it


def test_who_waits_is_told_each_change_of_what_the_holder_tells(tmp_path: Path) -> None:
    path = tmp_path / "work.lock"
    texts: list[str] = []
    order: list[str] = []
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(text: str) -> None:
        texts.append(text)
        heard.put_nowait(text)

    async def first(began: asyncio.Event) -> None:
        async with claimed(path) as claim:
            began.set()
            for text in ("", "unpacking\nmore of it", "configuring"):
                claim.tell(text, "web")
                await heard.get()
                claim.tell(text, "db")  # the same again is nothing new
            order.append("first")

    async def second(began: asyncio.Event) -> None:
        await began.wait()
        async with claimed(path, waiting=hear):
            order.append("second")

    async def both() -> None:
        began = asyncio.Event()
        await asyncio.gather(first(began), second(began))

    asyncio.run(asyncio.wait_for(both(), 20))
    assert texts == ["", "unpacking", "configuring"]
    assert order == ["first", "second"]


def test_waiting_that_is_cancelled_leaves_the_claim_to_others(tmp_path: Path) -> None:
    path = tmp_path / "work.lock"

    async def wait() -> None:
        with take(path, create=0o600):
            waiting = asyncio.create_task(claimed(path).__aenter__())
            await asyncio.sleep(0.02)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()

    asyncio.run(wait())
    assert is_free(path)


def test_readers_wait_only_for_who_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "lists"

    async def read() -> bool:
        async with claimed(path, shared=True), claimed(path, shared=True):
            return not is_free(path)

    assert asyncio.run(asyncio.wait_for(read(), 5))


def test_what_a_holder_tells_names_it_and_is_forgotten_at_its_wish(file: Path) -> None:
    with take(file, create=0o600) as claim:
        claim.tell("a long story\nof two lines", "web")
        assert file.read_text() == f"a long story\nweb\n{os.getpid()}\n"
        claim.tell("x", "web")
        assert file.read_text() == f"x\nweb\n{os.getpid()}\n"
        claim.forget()
        assert file.read_text() == ""
