"""The manifest of a worker or relay that is measured. Called by `peers`, `holding` and `modelling`."""

from pathlib import Path

from rhapsode_contract.manifests import save_manifest
from rhapsode_contract.resources import EngineSpec, InferenceWorker, Metadata, ModelSpec, RelaySpec, Spec


def write_manifest(folder: Path, model: str, engine: EngineSpec, relay: RelaySpec | None = None) -> Path:
    """Write the manifest of a builtin model into a folder; return its path."""
    spec = Spec(model=ModelSpec(source=f"builtin://{model}"), engine=engine, relay=relay or RelaySpec())
    path = folder / "manifest.json"
    resource = InferenceWorker(
        api_version="rhapsode.dev/v1alpha1", kind="InferenceWorker", metadata=Metadata(name="bench"), spec=spec
    )
    save_manifest(resource, path)
    return path
