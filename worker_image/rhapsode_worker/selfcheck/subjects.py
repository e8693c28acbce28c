"""What is to be checked: the engine, the model, and the plan that the engine gets. Called by `selfchecking`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rhapsode_contract import names
from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.validating import ManifestError, Problem, decode_manifest
from rhapsode_worker.engines import is_installed
from rhapsode_worker.selfcheck.dummy_checkpoints import write_dummy_checkpoint

MAX_BYTES = 1024 * 1024
DUMMY = "a dummy Llama of 2 layers with random weights"
_SMALL: dict[str, dict[str, Any]] = {
    "OpenVINO": {"model": {"source": "builtin://smollm2-135m"}, "engine": {"maxSequences": 4}},
    "Simulator": {
        "model": {"source": "builtin://simulator"},
        "engine": {"maxSequences": 4, "options": {"load": [{"stage": "loading weights", "seconds": 0.1}]}},
    },
    "TensorRTLLM": {
        "model": {"source": "file:///dummy", "servedName": "dummy"},
        "engine": {
            "maxSequences": 4, "maxContextTokens": 1024, "options": {"loadFormat": "dummy", "kvCacheTokens": 8192}
        },
    },
}  # fmt: skip
"""A small model for each engine. The dummy's few tokens in the KV cache leave a GPU to those who use it already."""


@dataclass(frozen=True)
class Subject:
    """An engine, and the resource that it is to serve. `words` say what its model is."""

    engine: str
    resource: InferenceWorker
    words: str
    dummy: bool = False

    def with_model(self, folder: Path) -> "Subject":
        """Return the subject with its dummy model made, if it needs one."""
        if not self.dummy:
            return self
        write_dummy_checkpoint(folder)
        raw = msgspec.to_builtins(self.resource)
        raw["spec"]["model"]["source"] = f"file://{folder}"
        return Subject(self.engine, msgspec.convert(raw, InferenceWorker), self.words, dummy=True)


def default_engine(gpus: bool) -> str:
    """Return the engine that a worker would choose here."""
    return "TensorRTLLM" if gpus and is_installed("TensorRTLLM") else "OpenVINO"


def small_subject(engine: str) -> Subject:
    """Return an engine with a small model of ours."""
    resource = decode_manifest({
        "apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "selfcheck"},
        "spec": {**_SMALL[engine], "engine": {"name": engine, **_SMALL[engine]["engine"]}},
    })  # fmt: skip
    dummy = engine == "TensorRTLLM"
    return Subject(engine, resource, DUMMY if dummy else resource.spec.model.source, dummy)


def given_subject(path: Path, engine: str | None, fallback: str) -> Subject:
    """Return what a manifest asks for. Raises ManifestError, also if it names another engine than `engine`."""
    resource = _read(path)
    named = resource.spec.engine.name
    if engine and named and engine != named:
        raise ManifestError([Problem("spec.engine.name", f"the manifest names {named}, --engine {engine}")])
    return Subject(engine or named or fallback, resource, resource.spec.model.source)


def _read(path: Path) -> InferenceWorker:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise ManifestError([Problem("", exc.strerror or "cannot be read")]) from exc
    if len(raw) > MAX_BYTES:
        raise ManifestError([Problem("", f"longer than {MAX_BYTES} bytes")])
    return decode_manifest(_parse(raw))


def _parse(raw: bytes) -> object:
    """Return JSON, or YAML where something reads it: the worker itself needs none."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        import yaml
    except ImportError as exc:
        raise ManifestError([Problem("", "not JSON, and nothing here reads YAML: write it as JSON")]) from exc
    try:
        documents = [one for one in yaml.safe_load_all(raw) if one is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ManifestError([Problem("", f"not YAML: {' '.join(str(exc).split())[:200]}")]) from exc
    if len(documents) != 1:
        raise ManifestError([Problem("", f"expected one InferenceWorker, found {len(documents)} documents")])
    return documents[0]
