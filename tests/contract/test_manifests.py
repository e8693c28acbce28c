"""A bad manifest is refused with the path, the rule and what was found; a good one decodes."""

import copy
from pathlib import Path
from typing import Any

import pytest

from rhapsode.manifest_files import MAX_BYTES, read_manifest
from rhapsode_contract.manifests import load_manifest, save_manifest
from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.validating import ManifestError, decode_manifest

GOOD: dict[str, Any] = {
    "apiVersion": "rhapsode.dev/v1alpha1",
    "kind": "InferenceWorker",
    "metadata": {"name": "smollm"},
    "spec": {
        "model": {"source": "builtin://smollm2-135m"},
        "engine": {"name": "OpenVINO"},
        "relay": {},
    },
}
FORMS = "builtin://NAME, hf://ORG/REPO[@REV], pvc://CLAIM/PATH or file:///PATH"
NAME_RULE = "lower-case letters, digits and '-', at most 52, beginning and ending with a letter or digit"

BAD: list[tuple[str, Any, str]] = [
    ("apiVersion", "v1", 'apiVersion: expected rhapsode.dev/v1alpha1, got "v1"'),
    ("apiVersion", ..., "apiVersion: required"),
    ("kind", "Pod", 'kind: expected InferenceWorker, got "Pod"'),
    ("metadata", ..., "metadata: required"),
    ("metadata.name", ..., "metadata.name: required"),
    ("metadata.name", "Smol", f'metadata.name: expected {NAME_RULE}, got "Smol"'),
    ("metadata.name", "-a", f'metadata.name: expected {NAME_RULE}, got "-a"'),
    ("metadata.name", "a\n", f'metadata.name: expected {NAME_RULE}, got "a\\n"'),
    ("metadata.name", "a" * 53, f'metadata.name: expected {NAME_RULE}, got "{"a" * 53}"'),
    ("metadata.name", 5, f"metadata.name: expected {NAME_RULE}, got 5"),
    ("metadata.labels", {"a": 1}, "metadata.labels.a: expected a string, got 1"),
    ("specs", {}, "specs: unknown field; did you mean spec?"),
    ("spec", [], "spec: expected a mapping, got []"),
    ("spec", ..., "spec: required"),
    ("spec.model", ..., "spec.model: required"),
    ("spec.model.source", ..., "spec.model.source: required"),
    ("spec.model.source", "http://x/y", f'spec.model.source: expected {FORMS}, got "http://x/y"'),
    ("spec.model.source", "builtin://", f'spec.model.source: expected {FORMS}, got "builtin://"'),
    ("spec.model.source", "hf://onlyorg", f'spec.model.source: expected {FORMS}, got "hf://onlyorg"'),
    ("spec.model.source", "file://relative", f'spec.model.source: expected {FORMS}, got "file://relative"'),
    ("spec.model.source", "pvc://claim", f'spec.model.source: expected {FORMS}, got "pvc://claim"'),
    ("spec.model.source", "file:///a/../etc", f"spec.model.source: expected {FORMS}, got 'file:///a/../etc'"),
    ("spec.model.source", None, f"spec.model.source: expected {FORMS}, got null"),
    (
        "spec.model.servedName",
        "a b",
        "spec.model.servedName: expected letters, digits, '.', '_' and '-', at most 128",
    ),
    ("spec.model.sauce", "x", "spec.model.sauce: unknown field; did you mean source?"),
    ("spec.engine.name", "vLLM", 'spec.engine.name: expected one of OpenVINO, Simulator, TensorRTLLM, got "vLLM"'),
    ("spec.engine.name", 1, "spec.engine.name: expected one of OpenVINO, Simulator, TensorRTLLM, got 1"),
    ("spec.engine.maxSequences", 0, "spec.engine.maxSequences: expected 1..1024, got 0"),
    ("spec.engine.maxSequences", 1025, "spec.engine.maxSequences: expected 1..1024, got 1025"),
    ("spec.engine.maxSequences", "8", 'spec.engine.maxSequences: expected 1..1024, got "8"'),
    ("spec.engine.maxSequences", True, "spec.engine.maxSequences: expected 1..1024, got true"),
    ("spec.engine.maxSequences", 1.5, "spec.engine.maxSequences: expected 1..1024, got 1.5"),
    ("spec.engine.maxContextTokens", 15, "spec.engine.maxContextTokens: expected 16..1048576, got 15"),
    ("spec.engine.options", [], "spec.engine.options: expected a mapping, got []"),
    ("spec.engine.options", {1: 2}, "spec.engine.options: expected names that are strings, got 1"),
    ("spec.engine.option", {}, "spec.engine.option: unknown field; did you mean options?"),
    ("spec.relay.narration", "loud", 'spec.relay.narration: expected one of cute, human, story, got "loud"'),
    ("spec.relay.heartbeatSeconds", 0, "spec.relay.heartbeatSeconds: expected 1..60, got 0"),
    ("spec.relay.heartbeatSeconds", 61, "spec.relay.heartbeatSeconds: expected 1..60, got 61"),
    ("spec.relay.queueLimit", -1, "spec.relay.queueLimit: expected 0..10000, got -1"),
    (
        "spec.relay.onDisconnect",
        "abort",
        'spec.relay.onDisconnect: expected one of cancel, continue, grace, got "abort"',
    ),
    ("spec.relay.graceSeconds", 3601, "spec.relay.graceSeconds: expected 0..3600, got 3601"),
    ("spec.relay.drainSeconds", None, "spec.relay.drainSeconds: expected 0..3600, got null"),
    ("spec.relay.drain_seconds", 5, "spec.relay.drain_seconds: unknown field; did you mean drainSeconds?"),
    ("spec.xyz", 1, "spec.xyz: unknown field; known are model, engine, relay"),
]


def changed(path: str, value: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place = manifest
    for parent in parents:
        place = place.setdefault(parent, {})
    if value is ...:
        place.pop(last, None)
    else:
        place[last] = value
    return manifest


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
    with pytest.raises(ManifestError, match="manifest: expected a mapping"):
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
    manifest["status"] = {"phase": "ready", "conditions": [], "something": "new"}
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
        ("&a [*a]", "manifest: expected a mapping"),
        ("- 1", "manifest: expected a mapping, got [1]"),
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
    assert [path.name for path in examples] >= ["simulator.yaml", "smollm.yaml"]
    for path in examples:
        assert isinstance(read_manifest(path), InferenceWorker)
