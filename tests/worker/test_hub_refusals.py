"""What a hub has for an engine, whom it lets in, and what is said when it gives nothing; no secret is ever told."""

import json
import sys
from pathlib import Path

import pytest

from rhapsode_contract.conditions import FAILURES
from rhapsode_worker.errors import LoadError
from rhapsode_worker.hub_files import choose
from support.hub import Hub, Repository
from support.hub_fetches import GGUF, REPO, Told, fetch

SECRET = "hf_thisIsTheSecret"
IR = {
    "openvino_model.xml": b"<xml/>", "openvino_model.bin": b"weights", "openvino_tokenizer.xml": b"<t/>",
    "openvino_tokenizer.bin": b"t", "openvino_detokenizer.xml": b"<d/>", "openvino_detokenizer.bin": b"d",
    "config.json": b"{}", "tokenizer_config.json": b"{}", "chat_template.jinja": b"x", "README.md": b"read me",
    "pytorch_model.bin": b"other weights", "onnx/model.onnx": b"other", ".gitattributes": b"x",
}  # fmt: skip
CHECKPOINT = {
    "config.json": b"{}", "model-00001-of-00002.safetensors": b"one", "model-00002-of-00002.safetensors": b"two",
    "model.safetensors.index.json": b"{}", "tokenizer.json": b"{}", "tokenizer.model": b"t", "merges.txt": b"m",
    "consolidated.safetensors": b"twice", "original/model.safetensors": b"thrice", "run.py": b"import os",
}  # fmt: skip


def refusal(cache: Path, **how: str) -> LoadError:
    with pytest.raises(LoadError) as caught:
        fetch(cache, **how)  # type: ignore[arg-type]
    return caught.value


# What an engine needs


def test_openvino_gets_its_ir_and_what_belongs_to_it_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository(IR)
    found = fetch(tmp_path)
    left_out = {"README.md", "pytorch_model.bin", "onnx/model.onnx", ".gitattributes"}
    assert {path.name for path in found.path.iterdir()} == set(IR) - left_out
    assert (found.path / "openvino_model.bin").read_bytes() == b"weights"


def test_tensorrt_llm_gets_one_checkpoint_with_its_tokenizer(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository(CHECKPOINT)
    found = fetch(tmp_path, engine="TensorRTLLM")
    left_out = {"consolidated.safetensors", "original/model.safetensors", "run.py"}
    assert {path.name for path in found.path.iterdir()} == set(CHECKPOINT) - left_out


def test_two_engines_may_share_a_repository(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository(CHECKPOINT | {"model.gguf": GGUF})
    assert fetch(tmp_path).path.name == "model.gguf"
    assert fetch(tmp_path, engine="TensorRTLLM").files == 7


@pytest.mark.parametrize(
    ("files", "engine", "words"),
    [
        ({"a.gguf": b"1", "b.gguf": b"2"}, "OpenVINO", ("holds 2 .gguf files, and one is needed: a.gguf, b.gguf",)),
        (
            CHECKPOINT,
            "OpenVINO",
            ("neither openvino_model.xml nor a .gguf file", "There is config.json", "OpenVINO/"),
        ),
        ({"a.gguf": b"1"}, "TensorRTLLM", ("no checkpoint for TensorRT-LLM", "There is a.gguf")),
        ({}, "OpenVINO", ("It is empty",)),
    ],
    ids=["two-ggufs", "no-ir", "no-checkpoint", "empty"],
)
def test_a_repository_without_a_model_for_the_engine_says_what_is_there(
    hub: Hub, tmp_path: Path, files: dict[str, bytes], engine: str, words: tuple[str, ...]
) -> None:
    hub.repositories[REPO] = Repository(files)
    error = refusal(tmp_path, engine=engine)
    assert error.reason == "ModelNotFound"
    assert [word for word in words if word not in str(error)] == []
    assert hub.fetched() == []


@pytest.mark.parametrize(
    "name", ["../../x.gguf", "/etc/x.gguf", "a/b.gguf", ".x.gguf", "..", "x\n.gguf", "-x.gguf", ""]
)
def test_a_name_that_leads_elsewhere_is_no_file_of_a_model(name: str) -> None:
    """A hub or mirror could write over whatever this user may write."""
    assert choose([name, "model.gguf"], "OpenVINO", REPO) == ["model.gguf"]


def test_a_mirror_that_lists_no_digests_is_asked_for_each_file(hub: Hub, tmp_path: Path) -> None:
    hub.faults.no_digests = True
    hub.repositories[REPO] = Repository(IR)
    assert (fetch(tmp_path).path / "openvino_model.bin").read_bytes() == b"weights"


# Whom it lets in


def test_a_private_model_needs_its_token_and_says_where_it_belongs(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[REPO].token = SECRET
    error = refusal(tmp_path)
    assert error.reason == "ModelGated"
    assert "answers 401, and no token was given" in error.why
    assert "spec.model.tokenSecretRef" in error.remedy
    monkeypatch.setenv("HF_TOKEN", f"{SECRET}\n")  # as an editor leaves it in a Secret
    assert fetch(tmp_path).path.read_bytes() == GGUF


def test_a_gated_model_says_that_its_terms_are_to_be_accepted(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[REPO].token, hub.repositories[REPO].gated = SECRET, True
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    error = refusal(tmp_path)
    assert error.reason == "ModelGated"
    assert "hf://org/model is gated" in error.why
    assert "Accept the model's terms" in error.remedy


def test_the_token_goes_to_the_hub_alone_and_is_never_told(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.repositories[REPO].token = SECRET
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.faults.cut_after, hub.faults.cuts = 1 << 20, 1
    told: list[Told] = []
    fetch(tmp_path, told)
    assert {one.token for one in hub.asked if not one.path.startswith("/store/")} == {SECRET}
    assert {one.token for one in hub.fetched()} == {""}, "the store has another name, and gets no token"
    hub.repositories[REPO].token = "hf_changed"
    error = refusal(tmp_path)
    words = json.dumps(told) + str(error) + "".join(capfd.readouterr())
    assert "hf_" not in words
    assert "s3cret" not in words, "no signed address either"


@pytest.mark.parametrize(
    ("revision", "reason", "words"),
    [
        ("nowhere", "ModelNotFound", "hf://org/model has no revision nowhere. Correct what follows '@'"),
        ("0" * 40, "ModelNotFound", "has no revision 0000"),
    ],
)
def test_a_revision_that_is_not_there_is_named(
    hub: Hub, tmp_path: Path, revision: str, reason: str, words: str
) -> None:
    error = refusal(tmp_path, revision=revision)
    assert error.reason == reason
    assert words in str(error)


def test_a_model_that_is_not_there_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del hub.repositories[REPO]
    monkeypatch.setenv("HF_TOKEN", SECRET)
    error = refusal(tmp_path)
    assert error.reason == "ModelNotFound"
    assert f"{hub.url} has no hf://org/model. Correct spec.model.source" in str(error)


def test_a_branch_with_a_slash_is_a_revision(hub: Hub, tmp_path: Path) -> None:
    assert fetch(tmp_path, revision="refs/pr/1") == fetch(tmp_path, revision="refs/pr/1", offline=True)


def test_without_the_hubs_client_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    error = refusal(tmp_path)
    assert error.reason == "SourceNotSupported"
    assert "pip install 'rhapsode[openvino]'" in error.remedy


def test_every_reason_is_one_of_the_table() -> None:
    assert {"ModelGated", "CacheFull", "ModelNotFound", "FetchFailed", "SourceNotSupported"} <= set(FAILURES)
