"""A bad manifest is refused with the path, the rule and what was found; a good one decodes."""

from pathlib import Path
from typing import Any

import pytest

from rhapsode.manifest_files import MAX_BYTES, read_manifest
from rhapsode_contract.manifests import load_manifest, save_manifest
from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.validating import ManifestError, decode_manifest
from support.manifests import BAD, changed


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=[f"{path}={value!r:.30}" for path, value, _ in BAD])
def test_a_bad_field_is_named_with_its_rule_and_what_was_found(path: str, value: Any, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        decode_manifest(changed(path, value))
    assert str(caught.value).startswith(message)


def test_all_problems_are_named_at_once() -> None:
    manifest = changed("spec.engine.maxSequences", 0)
    manifest["spec"]["relay"]["queueLimit"] = "many"
    with pytest.raises(ManifestError) as caught:
        decode_manifest(manifest)
    assert [problem.path for problem in caught.value.problems] == [
        "spec.engine.maxSequences",
        "spec.relay.queueLimit",
    ]


@pytest.mark.parametrize("raw", [None, [], "x", 5])
def test_what_is_no_mapping_is_said_to_be_none(raw: Any) -> None:
    with pytest.raises(ManifestError, match="manifest: must be of type object"):
        decode_manifest(raw)


def test_defaults_are_those_that_the_documentation_names() -> None:
    spec = decode_manifest(changed("spec.engine", {})).spec
    assert (spec.engine.name, spec.engine.max_sequences, spec.engine.max_context_tokens) == (None, 8, 2048)
    relay = spec.relay
    assert (relay.narration, relay.heartbeat_seconds, relay.queue_limit) == ("human", 15, 64)
    assert (relay.on_disconnect, relay.grace_seconds, relay.drain_seconds) == ("grace", 15, 60)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("builtin://smollm2-135m", "smollm2-135m"),
        ("hf://meta-llama/Llama-3.1-8B@main", "Llama-3.1-8B"),
        ("pvc://models/llama/8b", "8b"),
        ("file:///models/tiny.gguf", "tiny"),
    ],
)
def test_a_model_is_called_by_the_last_part_of_its_source(source: str, name: str) -> None:
    assert decode_manifest(changed("spec.model.source", source)).spec.model.name == name


def test_kubernetes_own_metadata_and_status_pass() -> None:
    manifest = changed("metadata.uid", "123")
    manifest["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    manifest["status"] = {"phase": "Ready", "conditions": [], "something": "new"}
    assert decode_manifest(manifest).metadata.name == "smollm"


def test_a_resource_survives_its_json(tmp_path: Path) -> None:
    resource = decode_manifest(changed("spec.engine.options", {"seed": 7}))
    save_manifest(resource, tmp_path / "m.json")
    assert load_manifest(tmp_path / "m.json") == resource


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not YAML"),
        ("", "expected one InferenceWorker, found 0 documents"),
        ("a: 1\n---\nb: 2\n", "expected one InferenceWorker, found 2 documents"),
        ("\x00", "not YAML"),
        ("a" * (MAX_BYTES + 1), "longer than"),
        ("&a [*a]", "manifest: must be of type object"),
        ("- 1", "manifest: must be of type object, got [1]"),
        ("!!python/object:os.system {}", "not YAML"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(content)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(message)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="No such file or directory"):
        read_manifest(tmp_path / "none.yaml")


def test_every_example_is_a_manifest() -> None:
    examples = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
    assert {"simulator.yaml", "smollm.yaml"} <= {path.name for path in examples}
    for path in examples:
        assert isinstance(read_manifest(path), InferenceWorker)
