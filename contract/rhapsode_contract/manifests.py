"""Read the manifest that a process is given: JSON, written by `rhapsode play` or the operator. Needs no YAML."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from rhapsode_contract.names import ENV_MANIFEST
from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.validating import ManifestError, Problem, decode_manifest


def load_manifest(path: Path) -> InferenceWorker:
    """Return the InferenceWorker in a JSON file. ManifestError says all that is wrong with it."""
    try:
        return decode_manifest(msgspec.json.decode(path.read_bytes()))
    except OSError as exc:
        raise ManifestError([Problem(str(path), exc.strerror or "cannot be read")]) from exc
    except msgspec.DecodeError as exc:
        raise ManifestError([Problem(str(path), f"not JSON: {exc}")]) from exc


def load_given_manifest(environ: Mapping[str, str]) -> InferenceWorker:
    """Return the InferenceWorker in the file that the environment names. ValueError, also if it names none."""
    if ENV_MANIFEST not in environ:
        raise ValueError(f"{ENV_MANIFEST} is not set: it names the InferenceWorker manifest")
    return load_manifest(Path(environ[ENV_MANIFEST]))


def save_manifest(resource: InferenceWorker, path: Path) -> None:
    """Write a resource so that `load_manifest` returns it."""
    path.write_bytes(msgspec.json.encode(resource))
