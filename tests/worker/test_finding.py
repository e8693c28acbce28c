"""A model that is there already: on this machine, or on a claim that the pod mounts."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rhapsode_contract.sources import parse_source
from rhapsode_worker.errors import LoadError
from rhapsode_worker.models import find_local, find_mounted


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")


@pytest.mark.parametrize(
    ("place", "engine", "found"),
    [
        ("llama/model.gguf", "OpenVINO", ("llama/model.gguf", 1, 5)),
        ("ir", "OpenVINO", ("ir", 2, 10)),
        ("hf", "TensorRTLLM", ("hf", 2, 10)),
        ("linked.gguf", "OpenVINO", ("linked.gguf", 1, 5)),
    ],
)
def test_a_model_is_found_where_its_claim_is_mounted(
    tmp_path: Path, place: str, engine: str, found: tuple[str, int, int]
) -> None:
    make(tmp_path, "llama/model.gguf", "ir/openvino_model.xml", "ir/openvino_model.bin", "hf/config.json", "hf/a.safetensors")  # fmt: skip
    (tmp_path / "linked.gguf").symlink_to("llama/model.gguf")
    model = find_mounted(parse_source(f"pvc://models/{place}"), tmp_path, engine)
    assert (str(model.path.relative_to(tmp_path)), model.files, model.size) == found


@pytest.mark.parametrize(
    ("place", "engine", "words"),
    [
        ("lama.gguf", "OpenVINO", "pvc://models/lama.gguf does not exist; beside it there is dir, llama.gguf. Correct spec.model.source."),
        ("nowhere/x.gguf", "OpenVINO", "pvc://models/nowhere/x.gguf does not exist. Correct"),
        ("dir", "OpenVINO", "pvc://models/dir is a folder without openvino_model.xml. Name a folder of OpenVINO IR, or a .gguf"),
        ("dir", "TensorRTLLM", "is a folder without config.json. Name a folder with a checkpoint"),
        ("llama.gguf", "TensorRTLLM", "pvc://models/llama.gguf is a file. Name a folder with a checkpoint"),
        ("dir/notes", "OpenVINO", "pvc://models/dir/notes is no .gguf file"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_with_what_is(tmp_path: Path, place: str, engine: str, words: str) -> None:
    make(tmp_path, "llama.gguf", "dir/notes")
    with pytest.raises(LoadError) as caught:
        find_mounted(parse_source(f"pvc://models/{place}"), tmp_path, engine)
    assert caught.value.reason == "ModelNotFound"
    assert words in str(caught.value)


def test_a_claim_that_is_empty_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="does not exist; its folder is empty"):
        find_mounted(parse_source("pvc://models/llama.gguf"), tmp_path, "OpenVINO")


def test_outside_a_cluster_there_is_no_claim() -> None:
    with pytest.raises(LoadError, match="here use file:///PATH") as caught:
        find_mounted(parse_source("pvc://models/llama.gguf"), None, "OpenVINO")
    assert caught.value.reason == "SourceNotSupported"


def test_a_path_of_this_machine_is_named_as_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=f"{tmp_path}/x.gguf does not exist"):
        find_local(tmp_path / "x.gguf", "OpenVINO", f"{tmp_path}/x.gguf")


@pytest.fixture
def stranger() -> Iterator[None]:
    """Somebody who may not read what others keep to themselves."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    yield
    os.seteuid(me)


@pytest.mark.parametrize("closed", ["ir", "ir/openvino_model.bin", "llama.gguf"])
def test_what_may_not_be_read_is_named_with_who_is_to_be_let_in(
    tmp_path: Path, closed: str, request: pytest.FixtureRequest
) -> None:
    make(tmp_path, "llama.gguf", "ir/openvino_model.xml", "ir/openvino_model.bin")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("test_", "popen-", "pytest-")):
            folder.chmod(0o755)
    (tmp_path / closed).chmod(0)
    request.getfixturevalue("stranger")
    with pytest.raises(LoadError) as caught:
        find_mounted(parse_source(f"pvc://models/{closed.partition('/')[0]}"), tmp_path, "OpenVINO")
    assert caught.value.reason == "ModelNotFound"
    assert f"cannot be read: Permission denied ({tmp_path / closed}" in caught.value.why
    assert f"Let user {os.geteuid()} read it" in caught.value.remedy


def test_a_path_that_no_volume_can_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be read: File name too long"):
        find_mounted(parse_source(f"pvc://models/{'x' * 300}"), tmp_path, "OpenVINO")
