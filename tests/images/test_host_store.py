"""What podman's store says of an image, read as it is on disk."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pytest_carthage.images.host_store import entry_point, image_ids

NUMBER = "4f" * 32


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "overlay-images"
    (folder / NUMBER).mkdir(parents=True)
    rows = [{"id": NUMBER, "names": ["docker.io/library/db:1"]}]
    (folder / "images.json").write_text(json.dumps(rows))
    (tmp_path / "storage.conf").write_text(f'[storage]\ngraphroot = "{tmp_path}"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    return folder / NUMBER / ("=" + base64.b64encode(f"sha256:{NUMBER}".encode()).decode())


def test_entry_point_is_that_of_the_images_record(store: Path) -> None:
    store.write_text(json.dumps({"config": {"Entrypoint": ["entry.sh", "db"], "Cmd": ["x"]}}))
    assert list(image_ids()) == ["docker.io/library/db:1"]
    assert entry_point("docker.io/library/db:1") == ("entry.sh", "db")
    store.write_text(json.dumps({"config": {"Cmd": ["x"]}}))
    assert entry_point("docker.io/library/db:1") == ()


def test_entry_point_is_not_known_without_an_image_or_its_record(store: Path) -> None:
    assert entry_point("docker.io/library/other:1") is None
    assert entry_point("docker.io/library/db:1") is None
    store.write_text("{")
    assert entry_point("docker.io/library/db:1") is None
