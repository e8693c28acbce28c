"""A model that may not be written to is copied for an engine that wants to; any other is used where it lies."""

import errno
import os
from pathlib import Path

import pytest

from rhapsode_worker.copying import copy_path, open_to_engine
from rhapsode_worker.errors import LoadError
from rhapsode_worker.models import ModelFiles


class Ear:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, action: str, **fields: object) -> None:
        self.said.append(action)


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    return ModelFiles(path, 1, 7)


def read_only(path: Path) -> bool:
    return False


async def opened(model: ModelFiles, cache: Path, ear: Ear, engine: str = "OpenVINO") -> Path:
    return await open_to_engine(model, engine, cache, ear, read_only)  # type: ignore[arg-type]


async def test_a_read_only_gguf_is_copied_once_and_told(model: ModelFiles, tmp_path: Path) -> None:
    ear = Ear()
    copy = await opened(model, tmp_path / "cache", ear)
    assert (copy.read_bytes(), copy.name) == (b"weights", "model.gguf")
    assert await opened(model, tmp_path / "cache", ear) == copy
    assert ear.said == ["model_copy"]


async def test_another_version_of_a_file_is_another_copy(model: ModelFiles, tmp_path: Path) -> None:
    first = await opened(model, tmp_path / "cache", Ear())
    model.path.write_bytes(b"others!")
    os.utime(model.path, ns=(1, 1))
    second = await opened(model, tmp_path / "cache", Ear())
    assert (first.read_bytes(), second.read_bytes()) == (b"weights", b"others!")


async def test_a_file_that_may_be_written_and_other_engines_need_no_copy(model: ModelFiles, tmp_path: Path) -> None:
    ear = Ear()
    assert await open_to_engine(model, "OpenVINO", tmp_path, ear) == model.path  # type: ignore[arg-type]
    assert await opened(model, tmp_path, ear, "TensorRTLLM") == model.path
    assert ear.said == []


async def test_a_copy_that_cannot_be_made_names_the_room_it_needs(model: ModelFiles, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(LoadError) as refused:
        await opened(model, tmp_path / "cache", Ear())
    assert refused.value.reason == "FetchFailed"
    assert "Make room" in refused.value.remedy


async def test_what_a_killed_copy_left_is_taken_away(model: ModelFiles, tmp_path: Path) -> None:
    """Each kill would leave as much as the model is large, until the disk is full."""
    folder = copy_path(model.path, tmp_path / "cache").parent
    (folder / "copy-killed").mkdir(parents=True)
    (folder / "copy-killed/model.gguf").write_bytes(b"weig")
    copy = await opened(model, tmp_path / "cache", Ear())
    assert copy.read_bytes() == b"weights"
    assert list(folder.glob("copy-*")) == []


async def test_a_copy_that_a_crash_of_the_machine_cut_short_is_made_again(model: ModelFiles, tmp_path: Path) -> None:
    copy = await opened(model, tmp_path / "cache", Ear())
    copy.write_bytes(b"")
    assert (await opened(model, tmp_path / "cache", Ear())).read_bytes() == b"weights"


async def test_a_disk_without_room_for_a_copy_is_a_full_cache(
    model: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(LoadError, match="No space left on device") as refused:
        await opened(model, tmp_path / "cache", Ear())
    assert refused.value.reason == "CacheFull"
